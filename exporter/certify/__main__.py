"""`offramp certify --bundle FOLDER --data PHOTOS`: promises for a bundle, without labels.

The same: `python -m exporter.certify`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliToggleFlag

from exporter.promises import (
    DELTA,
    DELTA_HELP,
    PROMISES,
    PROMISES_HELP,
    check_without_labels,
    read_levels,
)
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import Options, read_options
from offramp.writing import check_folder

STOPPED = "stopped; the bundle is as it was"


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Certify a bundle, and return the exit code (see `offramp.command_line.exit_codes`)."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: _certify(words), extra="exporter", stopped=STOPPED)


def _certify(arguments: Sequence[str]) -> None:
    options = read_options(CertifyOptions, arguments, "offramp certify")
    levels = read_levels(options.promises, options.delta)
    if not options.held_out:
        check_without_labels(levels)
    # Late: a wrong option is reported before the slow imports, numpy first and then ONNX.
    from offramp.bundle.manifest import read_manifest

    read_manifest(options.bundle, promises=False)
    check_folder(options.bundle, "--bundle")
    from exporter.certify.run import certify_bundle

    certify_bundle(options)


if __name__ == "__main__":
    sys.exit(main())
