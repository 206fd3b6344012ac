"""The options of `python -m serving`: flags, or OFFRAMP_* in the environment; flags win."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ORIGIN = r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
ORIGINS = rf"^\s*(\*|({ORIGIN})(\s*,\s*({ORIGIN}))*)?\s*$"
MAX_BATCH = {"cpu": 16, "cuda": 64}


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_a_worker(values: dict[str, Any]) -> int:
    """The default `threads`: the workers share the cores."""
    workers: int = values.get("workers", 1)  # not there where it will not do
    return max(1, cores() // workers)


def by_provider(values: dict[str, Any]) -> int:
    """The default `max_batch`: batching pays more on a GPU."""
    return MAX_BATCH[values.get("provider", "cpu")]


class Settings(BaseSettings):
    """Serve a bundle: answer each image at the earliest exit that its budget allows."""

    model_config = SettingsConfigDict(
        env_prefix="OFFRAMP_",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        cli_prog_name="python -m serving",
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )

    bundle: Path = Field(description="folder of the bundle, as `python -m exporter` writes it")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 for any free one")
    api_key: SecretStr | None = Field(
        None,
        min_length=1,
        description="key that /classify and /model ask for (Authorization: Bearer KEY); "
        "better given by the environment, for flags can be seen by other users",
    )
    cors_origins: str = Field(
        "",
        pattern=ORIGINS,
        description="origins of web pages that can call the API (CORS), separated by commas, as in "
        "https://shop.example,http://localhost:3000; or *; without it the API allows none",
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="prefix under which a proxy serves the API, as in /offramp, whether or not the "
        "proxy removes it",
    )
    provider: Literal["cpu", "cuda"] = Field("cpu", description="where the stages run")
    device: int = Field(0, ge=0, description="number of the CUDA device")
    layout: Literal["native", "portable"] = Field(
        "native",
        description="how features lie between stages on cpu: native, as this machine computes "
        "(faster), or portable, as the bundle's graphs say; cuda is always portable",
    )
    workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="server processes; each has its own engine, with threads, slots and memory "
        "of its own; on cpu a worker a core bears most",
    )
    threads: int = Field(
        default_factory=cores_of_a_worker,
        ge=1,
        le=1024,
        description="batches run, and images decoded, at the same time by each worker; "
        "without it the workers share the cores. On cuda at most two batches",
    )
    max_batch: int = Field(
        default_factory=by_provider,
        ge=1,
        le=4096,
        description="most requests in one batch: 16 on cpu, 64 on cuda",
    )
    slots: int = Field(
        256,
        ge=1,
        le=1 << 20,
        description="requests under way at most in each worker; it refuses further ones",
    )
    order: Literal["deepest", "fullest"] = Field(
        "deepest",
        description="which stage runs first: the deepest that somebody waits for, or that with "
        "most who wait (more answers a second, at longer worst times)",
    )
    rebatch: bool = Field(
        default=True,
        description="let a stage wait for survivors of a shallower one where measured times say "
        "that it pays",
    )
    overload: Literal["refuse", "degrade"] = Field(
        "refuse",
        description="under overload, refuse once the slots are taken, or before that let requests "
        "leave at their next exit",
    )
    degrade_above_ms: float = Field(
        100,
        gt=0,
        description="with overload degrade, the milliseconds of work that wait for each thread "
        "above which the server is overloaded",
    )
    max_images: int = Field(16, ge=1, description="images in one call at most")
    max_body_bytes: int = Field(16 << 20, ge=1, description="bytes of one body at most")
    max_held_bytes: int = Field(
        256 << 20, ge=1, description="bytes of the bodies of all calls under way at most"
    )
    body_seconds: float = Field(30, gt=0, description="time for a body to come in")
    max_pixels: int = Field(25_000_000, ge=1, description="pixels of one image at most")
    drain_seconds: int = Field(
        30, ge=0, description="time for calls under way to end after SIGTERM"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level to log; debug logs every call"
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins in `cors_origins`, as a browser sends them."""
        return tuple(each.strip().lower() for each in self.cors_origins.split(",") if each.strip())

    @model_validator(mode="after")
    def _call_fits(self) -> Self:
        if self.max_images > self.slots:
            raise ValueError(
                f"max_images ({self.max_images}) must be at most slots ({self.slots}), "
                "or a full call never fits"
            )
        if self.max_body_bytes > self.max_held_bytes:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) must be at most max_held_bytes "
                f"({self.max_held_bytes}), or a full body never fits"
            )
        return self
