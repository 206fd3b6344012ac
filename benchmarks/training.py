"""Everything about training in one command; at the end, every goal in a line.

    python -m benchmarks.training --data cifar10 --runs runs/objectives --out results

The networks that are compared are trained first where they are not there yet: some hours on two
CPU cores. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.goals import MISSED, is_verdict


def commands(arguments: argparse.Namespace) -> list[list[str]]:
    """The benchmarks in order, each with its options."""
    runs, out = ["--runs", str(arguments.runs)], ["--out", str(arguments.out)]
    data = ["--data", arguments.data]
    return [
        ["benchmarks.model_tables"],
        ["benchmarks.training_step"],
        ["benchmarks.objective_costs"],
        ["benchmarks.objectives", *runs, *data, *out, "--variations"],
        ["benchmarks.budgeted", *runs, *data, *out],
        ["benchmarks.conflict", *runs, *data],
    ]


def verdicts(command: Sequence[str]) -> list[str]:
    """Run one benchmark, show what it prints, and return its goals' lines.

    Raises:
        subprocess.CalledProcessError: it failed before it came to them.
    """
    print(f"\n===== {' '.join(command)}", flush=True)
    found = []
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            found += [line.rstrip()] if is_verdict(line) else []
    if running.returncode and not found:
        raise subprocess.CalledProcessError(running.returncode, command)
    return found


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
