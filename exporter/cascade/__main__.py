"""`offramp cascade SMALL.onnx LARGE.onnx --data IMAGES --out FOLDER`: networks into one bundle.

The same: `python -m exporter.cascade`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exporter.cascade.options import CascadeOptions
from exporter.output_folder import check_name, check_place
from exporter.promises import check_promises
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options

STOPPED = "stopped; nothing was written"
EPILOG = (
    "Example: offramp cascade small.onnx large.onnx --data held-out --size 160,224 "
    "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --out cascade"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a cascade, and return the exit code (see `offramp.command_line.exit_codes`)."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: _cascade(words), extra="cascade", stopped=STOPPED)


def _cascade(arguments: Sequence[str]) -> None:
    options = read_options(CascadeOptions, arguments, "offramp cascade", EPILOG)
    check_place(options.out)
    check_name(options.name, options.version)
    check_promises(options.promises, options.delta)
    # Late: a wrong option is reported before the slow imports.
    from exporter.cascade.network_options import read_members
    from exporter.cascade.run import Goal, Output, make_cascade

    members = read_members(options.networks, options)
    goal = Goal(options.out, options.confidence, options.price)
    make_cascade(options, members, goal, Output())


if __name__ == "__main__":
    sys.exit(main())
