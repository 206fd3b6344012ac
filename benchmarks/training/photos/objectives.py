"""Compare training objectives on a pretrained network: surgery, joint training, distillation.

All rows are the recipe `photos` and differ only in the options that they are named after. `alone`
is the same network with its last exit only. It shows what exits cost full depth. Differences are
paired: the same seed, and so the same held-out images and the same order of the training images.

    python -m benchmarks.training.photos.objectives --data my/photos --runs runs/photos \
        --out results --options "--size 128 --held-out 500"

Finished runs are not trained again, and interrupted runs are resumed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.training.comparison import Plan, Row
from benchmarks.training.evidence.paired import Right, paired, right_of
from benchmarks.training.objectives import accuracies, trained_runs, write
from benchmarks.training.photos.command import runs_parser

SEEDS = 3
JOINT = "--variant joint --objective joint"
DFS = "--variant released --objective joint --beta"
ROWS = (
    Row("joint", JOINT, SEEDS),
    Row("distillation", "--variant joint", SEEDS),
    *(Row(f"dfs-beta{beta}", f"{DFS} {beta}", SEEDS) for beta in (0.25, 0.5, 0.75, 1)),
    Row("alone", f"{JOINT} --shape.exits []", SEEDS),
    Row("dfs-distillation", "--variant released --beta 0.5", SEEDS),
    Row("dfs-conflict", f"{DFS} 0.5 --surgery-rule conflict", SEEDS),
    Row("ensemble", "--variant joint --objective.teacher ensemble", SEEDS),
)


def print_table(right: Right, rows: Sequence[Row], baseline: str = "joint") -> None:
    """Print the accuracy of each exit, and its paired difference to the baseline."""
    compared = right.get(baseline, {})
    images = next(each.shape[1] for runs in right.values() for each in runs.values())
    print(f"\naccuracy of each exit, %, on {images} images that no run trained on")
    for row in [row for row in rows if row.name in right]:
        runs = np.array([100 * each.mean(axis=1) for each in right[row.name].values()])
        deviation = runs.std(axis=0, ddof=min(1, len(runs) - 1))
        means = runs.mean(axis=0)
        cells = [f"{mean:5.1f} ±{each:3.1f}" for mean, each in zip(means, deviation, strict=True)]
        print(f"{row.name:18} {len(runs)} seeds  " + "   ".join(cells))
        if row.name != baseline and (found := paired(right[row.name], compared)):
            pairs = zip(found.mean, found.error, strict=True)
            cells = [f"{mean:+5.1f} ±{error:3.1f}" for mean, error in pairs]
            print(f"{f'  against {baseline} ± standard error':27}" + "   ".join(cells))


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = runs_parser(__doc__.partition("\n")[0], "runs/photos")
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, help="only these rows")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a user's error."""
    arguments = build_parser().parse_args(argv)
    rows = [row for row in ROWS if arguments.rows is None or row.name in arguments.rows]
    plan = Plan(arguments.data, "photos", arguments.options)
    trained = trained_runs(rows, plan, arguments)
    if trained is None:
        return 1
    write(arguments.out, accuracies(trained), rows)
    print_table(right_of(trained, ["held_out", "test"]), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
