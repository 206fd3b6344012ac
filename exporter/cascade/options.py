"""The options of `offramp cascade`, and those that it shares with `offramp design`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg, CliToggleFlag

from exporter.promises import (
    DELTA,
    DELTA_HELP,
    PRICE_HELP,
    PROMISES,
    PROMISES_HELP,
    SOLVE_FOR_HELP,
)
from offramp.bundle.values import Confidence, Filter, Price, SolvedFor
from offramp.command_line.options import Options


class NetworkOptions(Options):
    """Options of commands that join networks."""

    data: Path = Field(
        description="labelled images that no network was trained on: folder with one folder of "
        "images for each class, table (CSV, JSONL) or parquet file"
    )
    split: str | None = Field(
        None, description="split of the images in --data (default: validation, test or train)"
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file of the images is left out, except hidden files"
    )
    size: str | None = Field(
        None,
        description="height and width that each network reads, in pixels: 160,224 (default: as its "
        "file states)",
    )
    mean: list[str] = Field(
        default=[],
        description="mean of each channel that is subtracted from pixels in [0, 1]: one number or "
        "three; repeat it if networks differ. Needed for networks that read floats",
    )
    std: list[str] = Field(
        default=[],
        description="divisor of each channel after that, for example 1/255 with --mean 0 for "
        "pixels in [0, 255]; repeat it if networks differ",
    )
    outputs: str | None = Field(
        None,
        description="logits or probabilities, for all networks or for each: logits,probabilities "
        "(default: recognised on the images)",
    )
    classes: Path | None = Field(
        None,
        description="text file with a label on each line, in the order of the networks' outputs "
        "(default: labels that a network states, or the sorted classes of the images)",
    )
    filter: Filter | None = Field(
        None, description="filter that resizes images (default: bilinear, or that of a bundle)"
    )
    margin: float | None = Field(
        None,
        gt=0,
        le=1,
        description="central share of the shorter side that is used (default: 1, or that of a "
        "bundle)",
    )
    solve_for: SolvedFor = Field("agreement", description=SOLVE_FOR_HELP)
    name: str = Field("cascade", description="name of the model")
    version: str = Field("1", description="version of the model")
    dataset: str | None = Field(
        None, description="name of the images in the manifest (default: last part of --data)"
    )
    promises: str | None = Field(PROMISES, description=PROMISES_HELP)
    delta: float = Field(DELTA, gt=0, lt=1, description=DELTA_HELP)


class CascadeOptions(NetworkOptions):
    """Make a bundle of two or more image classifiers with the same labels, without training.

    An image leaves at the first network that is confident enough. Each network becomes a stage
    that reads the image at the largest size and reduces it. It is compared with its file.
    Temperatures, budgets and promises are computed from the images, on which no network can have
    been trained.
    """

    networks: CliPositionalArg[list[Path]] = Field(
        min_length=2,
        description="ONNX files, or folders of bundles, from the cheapest to the most accurate",
    )
    out: Path = Field(description="folder of the bundle. It must not exist")
    confidence: Confidence = Field(
        "max_softmax", description="function of the probabilities that thresholds apply to"
    )
    price: Price = Field("flops", description=PRICE_HELP)
