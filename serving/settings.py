"""Settings of the server: options of `offramp serve`, or OFFRAMP_* in the environment.

Options take precedence over the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from offramp.authorization import KEY_CHARACTERS, WHITE_SPACE
from offramp.bounds import MAX_SECONDS
from offramp.cores import cores
from serving.address_settings import ORIGIN, AddressSettings
from serving.model_settings import MAX_KEY_BYTES, ShareFromZero

Provider = Literal["cpu", "cuda"]
Layout = Literal["native", "portable"]
Order = Literal["deepest", "fullest"]
Overload = Literal["refuse", "degrade"]
OnBroken = Literal["keep", "safer", "full"]
LogLevel = Literal["debug", "info", "warning", "error"]

PREFIX = "OFFRAMP_"
KEY = f"{PREFIX}API_KEY"
MAX_BATCH = {"cpu": 16, "cuda": 64}
ENVIRONMENT = """\
Every option can also be set by an environment variable: OFFRAMP_MAX_BATCH sets --max-batch.
An option takes precedence over a variable."""


def threads_per_worker(values: dict[str, Any]) -> int:
    """Return the default of `threads`: the cores, divided by the workers."""
    workers: int = values.get("workers", 1)  # missing if its value is not allowed
    return max(1, cores() // workers)


def batch_of_provider(values: dict[str, Any]) -> int:
    """Return the default of `max_batch`: large batches gain more on a GPU."""
    return MAX_BATCH[values.get("provider", "cpu")]


class Settings(AddressSettings):
    """Serve a bundle: each request leaves the network at the first exit its budget allows."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    api_key: SecretStr | None = Field(
        None,
        min_length=1,
        max_length=MAX_KEY_BYTES,
        description="key that calls need to classify and to describe models (Authorization: Bearer "
        "KEY). Set it by the environment, because other users of the machine can see options",
    )
    provider: Provider = Field("cpu", description="processor that runs the stages")
    playground: bool = Field(
        default=True, description="serve the playground, a page to try pictures on, at /"
    )
    device: int = Field(0, ge=0, le=1023, description="number of the CUDA device")
    layout: Layout = Field(
        "native",
        description="memory layout of the features between stages on cpu: native, the layout in "
        "which this machine computes (faster), or portable, the layout of the bundle's graphs. "
        "On cuda it is always portable",
    )
    workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="server processes, 1 to 1024. Each has its own engine, threads, slots and "
        "memory. On a CPU, one worker per core gives the highest throughput",
    )
    threads: int = Field(
        default_factory=threads_per_worker,
        ge=1,
        le=1024,
        description="batches that each worker runs, and images that it decodes, at the same time, "
        "1 to 1024. On cuda, at most two batches. A CPU quota of the container limits the cores "
        "(default: cores / workers)",
    )
    max_batch: int = Field(
        default_factory=batch_of_provider,
        ge=1,
        le=4096,
        description="maximum requests in one batch, 1 to 4096. On cpu the default is lowered for "
        "a network of which such a batch keeps a stage busy for more than 40 ms (default: 16 on "
        "cpu, 64 on cuda)",
    )
    slots: int = Field(
        256,
        ge=1,
        le=1 << 20,
        description="maximum requests in progress in each worker, which refuses further requests",
    )
    order: Order = Field(
        "deepest",
        description="stage that runs first: the deepest with queued requests, or the one with the "
        "most queued requests (higher throughput, higher maximum latency)",
    )
    rebatch: bool = Field(
        default=True,
        description="let a stage wait for more requests from the previous stages, where measured "
        "times show a gain",
    )
    overload: Overload = Field(
        "refuse",
        description="under overload, refuse requests when all slots are taken, or before that let "
        "requests leave at their next exit",
    )
    degrade_above_ms: float = Field(
        100,
        gt=0,
        le=MAX_SECONDS * 1000,
        description="with --overload degrade, queued work for each thread above which the server "
        "is overloaded, in milliseconds",
    )
    audit: ShareFromZero = Field(
        0,
        description="share of answers that are compared with full depth, in free slots while no "
        "request waits, as in 1% or 0.01",
    )
    on_broken: OnBroken = Field(
        "keep",
        description="if audits show that a promise does not hold any more: keep its operating "
        "point and report it, answer by full depth until audits support a safer certified point, "
        "or by full depth",
    )
    audit_state: Path | None = Field(
        None,
        description="file in which audits survive a restart, one for each server (default: none, "
        "audits begin anew)",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=rf"^{ORIGIN}/?$",
        description="receiver of traces (OTLP over gRPC), as in http://collector:4317; without it "
        "nothing is traced. Needs the extra tracing",
    )
    trace_share: ShareFromZero = Field(
        0.01,
        description="share of requests that are traced, as in 1% or 0.01. The flag of a client's "
        "`traceparent` takes precedence",
    )
    max_images: int = Field(16, ge=1, le=1 << 20, description="maximum images in one call")
    max_body_bytes: int = Field(
        16 << 20, ge=1, le=1 << 30, description="maximum size of one body, in bytes"
    )
    max_held_bytes: int = Field(
        256 << 20,
        ge=1,
        le=1 << 40,
        description="maximum size of the bodies of all calls in progress, in bytes",
    )
    body_seconds: float = Field(
        30, gt=0, le=MAX_SECONDS, description="maximum time to receive a body, in seconds"
    )
    max_pixels: int = Field(
        25_000_000,
        ge=1,
        le=1 << 30,
        description="maximum size at which one image is decoded, in pixels. A JPEG is decoded at "
        "1/2, 1/4 or 1/8 of its size where that is enough",
    )
    drain_seconds: int = Field(
        30,
        ge=0,
        le=MAX_SECONDS,
        description="time for calls in progress to end after SIGTERM, in seconds",
    )
    log_level: LogLevel = Field(
        "info", description="lowest level that is logged. debug logs every call"
    )

    @property
    def cuda_device(self) -> int | None:
        """Return the number of the CUDA device. `None`: stages run on the CPU."""
        return self.device if self.provider == "cuda" else None

    @property
    def client_key(self) -> str | None:
        """Return the API key in plain text. `None`: calls require no key."""
        return None if self.api_key is None else self.api_key.get_secret_value()

    @field_validator("api_key")
    @classmethod
    def _clients_can_send_the_key(cls, key: SecretStr | None) -> SecretStr | None:
        """Remove white space at both ends, which HTTP removes from a header as well."""
        if key is None:
            return None
        text = key.get_secret_value().strip(WHITE_SPACE)
        if not text:
            raise ValueError(f"the key ({KEY}) has only white space: no client can send it")
        if not KEY_CHARACTERS.issuperset(text):
            raise ValueError(
                f"the key ({KEY}) has a control character or one outside ASCII, which not all "
                "clients can send"
            )
        return SecretStr(text)

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
