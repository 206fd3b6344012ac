"""`offramp certify --bundle FOLDER --data PHOTOS`: promises for a bundle, without labels.

The same: `python -m exporter.certify`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exporter.certify.options import CertifyOptions
from exporter.promises import (
    check_without_labels,
    read_levels,
)
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options
from offramp.writing import check_folder

STOPPED = "stopped; the bundle is as it was"


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
