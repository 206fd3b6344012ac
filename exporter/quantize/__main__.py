"""`offramp quantize --bundle FOLDER --data IMAGES --out FOLDER`: a bundle in fewer bits.

The same: `python -m exporter.quantize`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exporter.errors import ExportError
from exporter.output_folder import check_name, check_place
from exporter.promises import check_promises
from exporter.quantize.options import QuantizeOptions
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options

STOPPED = "stopped; nothing was written"


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
