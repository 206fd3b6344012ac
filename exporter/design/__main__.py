"""`offramp design NETWORK ... --data IMAGES`: the cheapest chain, as measured on this machine.

The same: `python -m exporter.design`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from exporter.cascade.__main__ import NetworkOptions
from exporter.output_folder import check_name, check_place
from exporter.promises import PRICE_HELP, check_promises
from offramp.bounds import PositiveFloat
from offramp.bundle.values import Price
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options
from offramp.writing import check_folder

STOPPED = "stopped; nothing was written"
EPILOG = (
    "Example: offramp design small.onnx bundles/large bundles/large-int8 --data held-out "
    "--within 0.5 --out chain"
)
RUNS = "--runs"  # can stand before the networks
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Propose a chain, and return the exit code (see `offramp.command_line.exit_codes`)."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: _design(words), extra="cascade", stopped=STOPPED)


def _design(arguments: Sequence[str]) -> None:
    words = [word for word in arguments if word != RUNS]
    options = read_options(DesignOptions, words, "offramp design", EPILOG)
    if options.out is not None:
        check_place(options.out)
    check_folder(options.plot.parent, "--plot")
    check_name(options.name, options.version)
    check_promises(options.promises, options.delta)
    # Late: a wrong option is reported before the slow imports.
    from exporter.design.run import design

    if options.at is None and options.within is None:
        options = options.model_copy(update={"within": WITHIN})
    design(options)


if __name__ == "__main__":
    sys.exit(main())
