"""`offramp serve --bundle DIR`, or `python -m serving`: serve a bundle until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import read_options
from serving.settings import ENVIRONMENT, Settings


def main(arguments: Sequence[str]) -> int:
    """Serve a bundle, and return the exit code (see `offramp.command_line.exit_codes`)."""
    return exit_code(lambda: _serve(arguments), extra="serving", stopped="", own_signals=True)


def _serve(arguments: Sequence[str]) -> None:
    settings = read_options(Settings, arguments, "offramp serve", ENVIRONMENT)
    # Late: a wrong option is reported before the slow imports.
    from serving.processes.run import run

    run(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
