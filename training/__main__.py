"""`offramp train RECIPE --out FOLDER`, or `python -m training`: train a network.

On several GPUs: `torchrun --nproc-per-node K -m training RECIPE --out FOLDER`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from offramp.command_line.exit_codes import exit_code
from training.options import read_run
from training.output_folder import check_place

STOPPED = "stopped; to continue after the last checkpoint, run the same command with --resume"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a network, and return the exit code (see `offramp.command_line.exit_codes`)."""
    words = sys.argv[1:] if arguments is None else arguments
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    return exit_code(lambda: _train(words), extra="training", stopped=STOPPED if first else "")


def _train(arguments: Sequence[str]) -> None:
    options, recipe = read_run(arguments)
    check_place(options.out, resume=options.resume)
    # Late: a wrong option is reported before the slow import of torch.
    from training.run.run import run

    run(options, recipe)


if __name__ == "__main__":
    sys.exit(main())
