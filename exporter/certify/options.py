"""The options of `offramp certify`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliToggleFlag

from exporter.promises import (
    DELTA,
    DELTA_HELP,
    PROMISES,
    PROMISES_HELP,
)
from offramp.command_line.options import Options


class CertifyOptions(Options):
    """Certify how often the early answers of a bundle agree with those of full depth.

    The images need no labels. Take them from where the images to answer come from, and none that
    the network was trained on. The promises replace those in the bundle's manifest.
    """

    bundle: Path = Field(description="folder of a bundle, whose manifest is written again")
    data: str = Field(
        description="images: a folder with images at any depth, a parquet file, or a data set as "
        "for training. Labels are ignored"
    )
    held_out: CliToggleFlag[bool] = Field(
        default=False,
        description="use only the images of --data that the training of the bundle held out, with "
        "their labels. --data is then its data set",
    )
    promises: str = Field(PROMISES, description=PROMISES_HELP.removesuffix(". null: none"))
    delta: float = Field(DELTA, gt=0, lt=1, description=DELTA_HELP)
    source: str | None = Field(
        None, description="name of the images in the manifest (default: last part of --data)"
    )
