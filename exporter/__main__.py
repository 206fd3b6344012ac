"""`offramp export`: a checkpoint into a bundle. `offramp recalibrate`: a bundle for other images.

As one command: `python -m exporter`, which recalibrates if it is given a bundle.

    python -m exporter --checkpoint FILE --out FOLDER
    python -m exporter --bundle FOLDER --data IMAGES --out FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exporter.options import ExportOptions, RecalibrateOptions
from exporter.output_folder import check_file, check_name, check_place
from exporter.promises import check_promises
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options

STOPPED = "stopped; nothing was written"
RECALIBRATE = "To solve the budgets of a bundle on other images: offramp recalibrate --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a checkpoint, or recalibrate a bundle if there is one, and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    has_bundle = any(word.partition("=")[0] == "--bundle" for word in words)
    return recalibrate(words) if has_bundle else export(words)


def export(arguments: Sequence[str]) -> int:
    """Export a checkpoint, and return the exit code (see `offramp.command_line.exit_codes`)."""
    return exit_code(lambda: _export(arguments), extra="exporter", stopped=STOPPED)


def recalibrate(arguments: Sequence[str]) -> int:
    """Recalibrate a bundle, and return the exit code (see `offramp.command_line.exit_codes`)."""
    return exit_code(lambda: _recalibrate(arguments), extra="exporter", stopped=STOPPED)


def _export(arguments: Sequence[str]) -> None:
    options = read_options(ExportOptions, arguments, "offramp export", RECALIBRATE)
    check_place(options.out)
    check_name(options.name, options.version)
    check_promises(options.promises, options.delta)
    check_file(options.checkpoint, "--checkpoint", "a checkpoint that `offramp train` wrote")
    # Late: a wrong option is reported before the slow imports.
    from exporter.run import export_checkpoint

    export_checkpoint(options)


def _recalibrate(arguments: Sequence[str]) -> None:
    options = read_options(RecalibrateOptions, arguments, "offramp recalibrate")
    check_place(options.out)
    check_name(options.name, options.version)
    check_promises(options.promises, options.delta)
    # Late, as above: first the import of numpy, then that of ONNX.
    from offramp.bundle.manifest import read_manifest

    read_manifest(options.bundle)
    from exporter.run import recalibrate_bundle

    recalibrate_bundle(options)


if __name__ == "__main__":
    sys.exit(main())
