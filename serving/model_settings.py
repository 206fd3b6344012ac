"""Settings of the models that are served: one bundle, or a folder of several."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, CliToggleFlag

from offramp.authorization import plain_key
from offramp.errors import UsageError

MAX_KEY_BYTES = 1 << 12
NO_MODEL = (
    "--bundle or OFFRAMP_BUNDLE: a value is required (folder of the bundle), "
    "or --models (folder of several)"
)


SHADOW = re.compile(r"([a-z][a-z0-9_-]{0,63})@([1-9][0-9]{0,17})=(.+)")


def parse_share(value: object, *, from_zero: bool = False) -> float:
    """Return a share of requests, given as a percentage (5%) or a number (0.05).

    Args:
        value: The text or the number.
        from_zero: The share can be 0.

    Raises:
        ValueError: It is no share up to 1.
    """
    text = str(value).strip()
    number = text.removesuffix("%")
    try:
        share = math.nan if "_" in number else float(number) / (1 if number == text else 100)
    except ValueError:
        share = math.nan
    if 0 < share <= 1 or (from_zero and share == 0):
        return share
    bounds = "from 0 to 1" if from_zero else "above 0 and up to 1"
    raise ValueError(f"must be {bounds}, as in 5% or 0.05")


Share = Annotated[float, BeforeValidator(parse_share), Field(gt=0, le=1)]
ShareFromZero = Annotated[
    float, BeforeValidator(partial(parse_share, from_zero=True)), Field(ge=0, le=1)
]


class ModelSettings(BaseSettings):
    """The models to serve."""

    bundle: Path | None = Field(
        None,
        description="folder of the bundle, or hf://org/name on the Hugging Face hub (extra hub), "
        "as `offramp export` writes it",
    )
    models: Path | None = Field(
        None,
        description="instead of a bundle, folder of several models: NAME/VERSION/manifest.json, "
        "where a version is a positive integer. The newest version of each is served",
    )
    default_model: str | None = Field(
        None,
        description="with --models, name of the model that answers /classify (default: the only "
        "one)",
    )
    keep_previous: CliToggleFlag[bool] = Field(
        default=False,
        description="with --models, keep the version that answered before the last change loaded, "
        "so that a rollback takes no time",
    )
    admin_key_file: Path | None = Field(
        None,
        description="with --models, file with the key that calls need to load and unload models; "
        "without it no call can",
    )

    shadow: str = Field(
        "",
        description="with --models, versions that get copies of a share of the answered requests, "
        "while no request waits, and are compared, as in clothing@2=5%, separated by commas",
    )

    @property
    def shadows(self) -> dict[str, tuple[str, float]]:
        """Return version and share of the shadow of each model that has one, by name."""
        return _shadows_in(self.shadow)

    @property
    def folder(self) -> Path:
        """Return the folder of the one bundle."""
        assert self.bundle is not None
        return self.bundle

    @field_validator("shadow")
    @classmethod
    def _shadows_can_be_read(cls, shadow: str) -> str:
        _shadows_in(shadow)
        return shadow

    @model_validator(mode="after")
    def _something_is_served(self) -> Self:
        if self.bundle is None and self.models is None:
            raise ValueError(NO_MODEL)
        if self.shadow and self.models is None:
            raise ValueError("--shadow or OFFRAMP_SHADOW: needs several versions (--models)")
        return self

    def read_admin_key(self) -> str | None:
        """Return the key in the file for it, without white space at both ends. `None`: no file.

        Raises:
            UsageError: The file cannot be read, or has no key that clients can send.
        """
        return None if self.admin_key_file is None else read_key(self.admin_key_file)


def _shadows_in(text: str) -> dict[str, tuple[str, float]]:
    found: dict[str, tuple[str, float]] = {}
    for word in filter(None, (each.strip() for each in text.split(","))):
        match = SHADOW.fullmatch(word)
        if match is None:
            raise ValueError(f"{word[:80]!r} is not NAME@VERSION=SHARE, as in clothing@2=5%")
        if match[1] in found:
            raise ValueError(f"{match[1]} has two shadows; give it one")
        try:
            found[match[1]] = (match[2], parse_share(match[3]))
        except ValueError as error:
            raise ValueError(f"the share of {match[1]} {error}") from error
    return found


def read_key(path: Path) -> str:
    """Return the key in a file, without white space at both ends.

    Raises:
        UsageError: The file cannot be read, or has no key that clients can send.
    """
    content = _start_of(path)
    if len(content) > MAX_KEY_BYTES:
        raise UsageError(f"{path}: has more than {MAX_KEY_BYTES} bytes; keep the key alone in it")
    text = plain_key(content)
    if text is None:
        raise UsageError(f"{path}: has no key of printable ASCII characters")
    return text


def _start_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES + 1).decode("latin-1")
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be read ({error.strerror})") from error
