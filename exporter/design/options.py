"""The options of `offramp design`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from exporter.cascade.options import NetworkOptions
from exporter.promises import PRICE_HELP
from offramp.bounds import PositiveFloat
from offramp.bundle.values import Price

WITHIN = 0.5  # points of accuracy
_MILLISECONDS = re.compile(r"(\d+(?:\.\d+)?)(?:ms)?", re.ASCII)


class DesignOptions(NetworkOptions):
    """Measure networks and all chains of two on this machine, and propose the cheapest.

    Networks are ONNX files and bundles with the same labels, int8 bundles too. Each is run on the
    held-out images, and timed with one thread and one image. The table and the plot show accuracy
    against milliseconds and against flops, with each network and each exit alone. --out makes the
    proposed chain a bundle.
    """

    networks: CliPositionalArg[list[Path]] = Field(
        min_length=1, description="ONNX files, or folders of bundles, in any order"
    )
    within: float | None = Field(
        None,
        ge=0,
        le=100,
        description="propose the cheapest chain that is right on at most so many points less than "
        f"the best network (default: {WITHIN:g}, without --at)",
    )
    at: PositiveFloat | None = Field(
        None,
        description="propose the most accurate chain that takes at most so many milliseconds for "
        "an image in the mean, as in 5ms",
    )
    price: Price = Field("ms", description=f"{PRICE_HELP}. The cheapest chain is that by it too")
    out: Path | None = Field(
        None, description="folder of the bundle for the proposed chain. It must not exist"
    )
    plot: Path = Field(Path("design.svg"), description="file for the plot: .svg or .png")

    @field_validator("at", mode="before")
    @classmethod
    def _at_can_have_a_unit(cls, at: object) -> object:
        found = _MILLISECONDS.fullmatch(at.strip()) if isinstance(at, str) else None
        return found[1] if found else at

    @model_validator(mode="after")
    def _one_aim(self) -> Self:
        if self.within is not None and self.at is not None:
            raise ValueError("--within and --at exclude each other: leave one out")
        if self.plot.suffix not in (".svg", ".png"):
            raise ValueError("--plot: the name must end in .svg or .png")
        return self
