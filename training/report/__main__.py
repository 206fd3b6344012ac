"""Write the report of a finished run: `python -m training.report --checkpoint FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import Options, read_options


class ReportOptions(Options):
    """Evaluate a checkpoint, and write its report into the same folder."""

    checkpoint: Path = Field(description="file that `offramp train` wrote")
    data: str | None = Field(
        None, description="source of the images (default: the source that training used)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report of a checkpoint, and return the exit code, as all commands do."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: _report(words), extra="training")


def _report(arguments: Sequence[str]) -> None:
    options = read_options(ReportOptions, arguments, "python -m training.report")
    # Late: a wrong option is reported before the slow imports.
    from training.report.report import report_checkpoint

    sys.stdout.write(f"{report_checkpoint(options.checkpoint, options.data)}\n")


if __name__ == "__main__":
    sys.exit(main())
