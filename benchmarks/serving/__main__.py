"""Run all benchmarks of serving, then print one line for each goal.

    python -m benchmarks.serving --data cifar10 --out results

Includes the peers that `make bench-peers` has installed. Takes about two hours on a machine that
does nothing else. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.goals import MISSED, verdicts


def commands(arguments: argparse.Namespace) -> list[list[str]]:
    """Return the benchmarks in order, each with its options."""
    common = ["--data", arguments.data, "--out", str(arguments.out)]
    bundle = ["--bundle", str(arguments.bundle)]
    rounds = ["--rounds", str(arguments.rounds)]
    module = "benchmarks.serving."
    return [
        [f"{module}compare", *common, *bundle, *rounds],
        [f"{module}compare", *common, "--paper", *rounds],
        [f"{module}overload", *common, *bundle, "--seconds", str(arguments.overload)],
        [f"{module}accounting", *common, *bundle, "--calls", str(arguments.calls)],
    ]


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description="Run all benchmarks of serving.")
    parser.add_argument("--data", default="cifar10", help="hub name, parquet or folder of images")
    parser.add_argument(
        "--bundle",
        type=Path,
        default=Path("deploy/bundles/cifar10-msdnet"),
        help="folder of the bundle",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results"), help="folder for tables and plots"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--overload", type=float, default=300.0, help="seconds of overload")
    parser.add_argument("--calls", type=int, default=100_000, help="requests of the accounting")
    return parser


def main() -> int:
    """Run all benchmarks and return 1 if a goal is missed."""
    lines = []
    for command in commands(build_parser().parse_args()):
        network = "paper's network: " if "--paper" in command else ""
        lines += [(line, network) for line in verdicts(command)]
    print("\n===== goals")
    for line, network in lines:
        print(f"{line[: len(MISSED)]}{network}{line[len(MISSED) :]}")
    return 1 if any(line.startswith(MISSED) for line, _ in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
