"""`offramp quantize --bundle FOLDER --data IMAGES --out FOLDER`: a bundle in fewer bits.

The same: `python -m exporter.quantize`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliToggleFlag

from exporter.errors import ExportError
from exporter.output_folder import check_name, check_place
from exporter.promises import DELTA, DELTA_HELP, PROMISES, PROMISES_HELP, check_promises
from exporter.quantize import Precision
from exporter.reject import PHOTOS_HELP, RATE, RATE_HELP
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import Options, read_options

STOPPED = "stopped; nothing was written"


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Quantize a bundle, and return the exit code (see `offramp.command_line.exit_codes`)."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: _quantize(words), extra="exporter", stopped=STOPPED)


def _quantize(arguments: Sequence[str]) -> None:
    options = read_options(QuantizeOptions, arguments, "offramp quantize")
    check_place(options.out)
    check_promises(options.promises, options.delta)
    # Late: a wrong option is reported before the slow imports, numpy first and then ONNX.
    from offramp.bundle.manifest import read_manifest

    manifest = read_manifest(options.bundle)
    check_name(None, options.version or f"{manifest.version}-{options.precision}")
    if manifest.precision != "fp32":
        raise ExportError(f"--bundle: is in {manifest.precision} already; give the one in fp32")
    from exporter.quantize.run import convert_bundle

    convert_bundle(options)


if __name__ == "__main__":
    sys.exit(main())
