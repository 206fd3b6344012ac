"""Everything about serving in one command; at the end, every goal in a line.

    python -m benchmarks.serving --data cifar10 --out results

Peers take part where `make bench-peers` has installed them. Takes about two hours, and wants a
machine that does nothing else. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.goals import MISSED, verdicts


def commands(arguments: argparse.Namespace) -> list[list[str]]:
    """The benchmarks in order, each with its options."""
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


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="All benchmarks of serving.")
    parser.add_argument("--data", default="cifar10", help="hub name, parquet or folder of images")
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/cifar10-msdnet"))
    parser.add_argument("--out", type=Path, default=Path("results"), help="for tables and plots")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--overload", type=float, default=300.0, help="seconds of overload")
    parser.add_argument("--calls", type=int, default=100_000, help="that are accounted for")
    lines = []
    for command in commands(parser.parse_args()):
        of = "paper's network: " if "--paper" in command else ""
        lines += [(line, of) for line in verdicts(command)]
    print("\n===== goals")
    for line, of in lines:
        print(f"{line[: len(MISSED)]}{of}{line[len(MISSED) :]}")
    return 1 if any(line.startswith(MISSED) for line, _ in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
