"""Run what needs a GPU, in named steps with limits of time, and keep what is done.

    python -m benchmarks.gpu --check --data data/tin100 --out results/gpu
    python -m benchmarks.gpu comparison --data data/tin100 --out results/gpu --seconds 590

| step         | runs                                                         | at most |
|--------------|--------------------------------------------------------------|---------|
| `comparison` | joint and released, with and without regularisation, 2 seeds | 570 s   |
| `tests`      | the tests for a GPU                                          | 240 s   |
| `engine`     | the throughput of the engine                                 | 240 s   |
| `recipe`     | the recipe `cifar-full`, resumed if it has begun             | 570 s   |

Steps are run in this order, and none for longer than what is left of `--seconds`. OUT/<step>.txt
has the output of each, OUT/steps.csv the exit status and the seconds. `--check` runs nothing. It
lists for each step the modules and files that are missing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.steps import Outcome, Step, run_step, steps, write_outcomes

NAMES = ("comparison", "tests", "engine", "recipe")


def print_check(wanted: Sequence[Step]) -> int:
    """Print what is missing for each step. Return 1 if anything is."""
    for step in wanted:
        print(f"{step.name:12} {', '.join(step.missing()) or 'nothing'} missing")
    return 1 if any(step.missing() for step in wanted) else 0


def run_all(wanted: Sequence[Step], out: Path, seconds: float) -> list[Outcome]:
    """Run steps one after another, for so many seconds in all. Print a line for each."""
    out.mkdir(parents=True, exist_ok=True)
    deadline, outcomes = time.monotonic() + seconds, list[Outcome]()
    for step in wanted:
        left = deadline - time.monotonic()
        if left <= 0:
            print(f"{step.name:12} not started: no time is left")
            continue
        found = run_step(step, out, left)
        outcomes.append(found)
        write_outcomes(out / "steps.csv", outcomes)
        status = "time over" if found.status is None else f"exit status {found.status}"
        print(
            f"{step.name:12} {status}, {found.seconds:.0f} s, see {out / step.name}.txt", flush=True
        )
    return outcomes


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option, required = parser.add_argument, argparse.SUPPRESS
    option("steps", nargs="*", metavar="STEP", help=f"of {', '.join(NAMES)} (default: all)")
    option("--data", type=Path, required=True, default=required, help="images of the comparison")
    option("--out", type=Path, required=True, default=required, help="folder of all results")
    option("--seconds", type=float, default=600, help="time for all steps together")
    option("--cifar", default="cifar10", help="images of the recipe, as for `offramp train`")
    option("--bundle", type=Path, default=Path("deploy/bundles/cifar10-msdnet"), help="bundle")
    option("--options", default="", help="more options of the comparison, '--epochs 20'")
    option("--check", action="store_true", help="list what is missing, and run nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps. Return the exit status: 1 if a step failed, was cut off or cannot run."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if unknown := set(given.steps) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(NAMES)}")
    options = shlex.split(given.options)
    every = steps(given.data, given.cifar, given.bundle, given.out, given.seconds, options)
    wanted = [step for step in every if step.name in (given.steps or NAMES)]
    if print_check(wanted) or given.check:
        return 1 if any(step.missing() for step in wanted) else 0
    outcomes = run_all(wanted, given.out, given.seconds)
    return 0 if len(outcomes) == len(wanted) and all(o.status == 0 for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
