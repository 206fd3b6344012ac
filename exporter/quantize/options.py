"""The options of `offramp quantize`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliToggleFlag

from exporter.promises import DELTA, DELTA_HELP, PROMISES, PROMISES_HELP
from exporter.quantize import Precision
from exporter.reject import PHOTOS_HELP, RATE, RATE_HELP
from offramp.command_line.options import Options


class QuantizeOptions(Options):
    """Convert a bundle to fewer bits, and measure every figure in its manifest again.

    8-bit integers are two to three times as fast on processors with VNNI. 16-bit floats are for
    GPUs.
    """

    bundle: Path = Field(description="folder of a bundle in fp32")
    out: Path = Field(description="folder of the new bundle. It must not exist")
    data: str = Field(
        description="images that the bundle was made with: name on the Hugging Face hub, file or "
        "folder"
    )
    strict: CliToggleFlag[bool] = Field(
        default=False, description="stop if any file of the images is left out, except hidden files"
    )
    precision: Precision = Field("int8", description="number format of the new bundle")
    version: str | None = Field(
        None,
        description="version of the new bundle (default: that of --bundle, and the precision)",
    )
    reject: str | None = Field(None, description=PHOTOS_HELP)
    reject_rate: float = Field(RATE, gt=0, lt=1, description=RATE_HELP)
    promises: str | None = Field(PROMISES, description=PROMISES_HELP)
    delta: float = Field(DELTA, gt=0, lt=1, description=DELTA_HELP)
