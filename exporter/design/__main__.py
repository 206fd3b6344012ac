"""`offramp design NETWORK ... --data IMAGES`: the cheapest chain, as measured on this machine.

The same: `python -m exporter.design`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exporter.design.options import WITHIN, DesignOptions
from exporter.output_folder import check_name, check_place
from exporter.promises import check_promises
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options
from offramp.writing import check_folder

STOPPED = "stopped; nothing was written"
EPILOG = (
    "Example: offramp design small.onnx bundles/large bundles/large-int8 --data held-out "
    "--within 0.5 --out chain"
)
RUNS = "--runs"  # can stand before the networks


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
