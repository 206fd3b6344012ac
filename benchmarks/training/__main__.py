"""Run all benchmarks of training and print one line for each goal at the end.

    python -m benchmarks.training --data cifar10 --runs runs/objectives --out results

Networks that are not trained yet are trained first, which takes some hours on two CPU cores. The
exit status is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.goals import MISSED, verdicts


def commands(arguments: argparse.Namespace) -> list[list[str]]:
    """Return the benchmarks in order, each with its options."""
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
    """Run the benchmarks and return the exit status, 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description="Run all benchmarks of training.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--data", default="cifar10", help="images, as for `python -m training`")
    option("--runs", type=Path, default=Path("runs/objectives"), help="folder of trained runs")
    option("--out", type=Path, default=Path("results"), help="folder for tables and plots")
    lines = [line for command in commands(parser.parse_args()) for line in verdicts(command)]
    print("\n===== goals")
    print(*lines, sep="\n")
    return 1 if any(line.startswith(MISSED) for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
