"""Everything about training in one command; at the end, every goal in a line.

    python -m benchmarks.training --data cifar10 --runs runs/objectives --out results

The networks that are compared are trained first where they are not there yet: some hours on two
CPU cores. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.goals import MISSED, verdicts


def commands(arguments: argparse.Namespace) -> list[list[str]]:
    """The benchmarks in order, each with its options."""
    runs, out = ["--runs", str(arguments.runs)], ["--out", str(arguments.out)]
    data = ["--data", arguments.data]
    return [
        ["benchmarks.training.model_tables"],
        ["benchmarks.training.training_step"],
        ["benchmarks.training.objective_costs"],
        ["benchmarks.training.objectives", *runs, *data, *out, "--variations"],
        ["benchmarks.training.budgeted", *runs, *data, *out],
        ["benchmarks.training.conflict", *runs, *data],
    ]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="All benchmarks of training.")
    parser.add_argument("--data", default="cifar10", help="as of `python -m training`")
    parser.add_argument("--runs", type=Path, default=Path("runs/objectives"), help="where runs are")
    parser.add_argument("--out", type=Path, default=Path("results"), help="for tables and plots")
    lines = [line for command in commands(parser.parse_args()) for line in verdicts(command)]
    print("\n===== goals")
    print(*lines, sep="\n")
    return 1 if any(line.startswith(MISSED) for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
