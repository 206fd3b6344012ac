"""The options of `offramp export` and `offramp recalibrate`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliToggleFlag

from exporter.promises import (
    DELTA,
    DELTA_HELP,
    PRICE_HELP,
    PROMISES,
    PROMISES_HELP,
    SOLVE_FOR_HELP,
)
from exporter.reject import PHOTOS_HELP, RATE, RATE_HELP
from offramp.bundle.values import Confidence, Price, SolvedFor
from offramp.command_line.options import Options


class ExportOptions(Options):
    """Export a checkpoint as a bundle: one ONNX graph for each stage.

    The graphs are verified against the network, and calibrated on the images that training held
    out.
    """

    checkpoint: Path = Field(description="file that `offramp train` wrote")
    out: Path = Field(description="folder of the bundle. It must not exist")
    data: str | None = Field(
        None, description="source of the images (default: the source that training used)"
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file of the images is left out, except hidden files"
    )
    name: str | None = Field(
        None, description="name of the model (default: the name of the recipe)"
    )
    version: str = Field("1", description="version of the model")
    dataset: str | None = Field(
        None, description="name of the images in the manifest (default: last part of the source)"
    )
    confidence: Confidence = Field(
        "max_softmax", description="function of the probabilities that thresholds apply to"
    )
    solve_for: SolvedFor = Field("agreement", description=SOLVE_FOR_HELP)
    price: Price = Field("flops", description=PRICE_HELP)
    reject: str | None = Field(None, description=PHOTOS_HELP)
    reject_rate: float = Field(RATE, gt=0, lt=1, description=RATE_HELP)
    promises: str | None = Field(PROMISES, description=PROMISES_HELP)
    delta: float = Field(DELTA, gt=0, lt=1, description=DELTA_HELP)


class RecalibrateOptions(Options):
    """Fit the temperatures of a bundle and solve its budgets on other images.

    The graphs stay as they are, apart from the temperatures.
    """

    bundle: Path = Field(description="folder of a bundle")
    data: str = Field(
        description="labelled images that the network was not trained on: name on the Hugging "
        "Face hub, file or folder"
    )
    out: Path = Field(description="folder of the new bundle. It must not exist")
    split: str = Field("train", description="split of the images in --data")
    held_out: CliToggleFlag[bool] = Field(
        default=False,
        description="use the images of --data that the training of the bundle held out, in every "
        "split. --data is then its data set",
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file of the images is left out, except hidden files"
    )
    name: str | None = Field(None, description="name of the model (default: that of --bundle)")
    version: str | None = Field(
        None, description="version of the model (default: that of --bundle)"
    )
    dataset: str | None = Field(
        None, description="name of the images in the manifest (default: last part of --data)"
    )
    solve_for: SolvedFor | None = Field(
        None, description=f"{SOLVE_FOR_HELP} (default: that of --bundle, or agreement)"
    )
    reject: str | None = Field(None, description=PHOTOS_HELP)
    reject_rate: float = Field(RATE, gt=0, lt=1, description=RATE_HELP)
    promises: str | None = Field(PROMISES, description=PROMISES_HELP)
    delta: float = Field(DELTA, gt=0, lt=1, description=DELTA_HELP)
