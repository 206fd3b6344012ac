"""Compare heads of early exits at equal cost: `coarse` with the default, and with a linear layer.

Rows differ in the heads alone. `coarse` has so many channels that all early heads together cost
about as much as those of `convolution`. With the recipe `photos-quick` (default) the trunk is
frozen, and all rows of a seed read the same cached features.

    python -m benchmarks.training.photos.heads --data my/photos --runs runs/heads \
        --out results/heads --options "--held-out 500"

Prints the flops of each head, then the accuracy of each exit with its paired difference to
`convolution`, on the held-out and test images. No run is trained on them. Finished runs are not
trained again, and interrupted runs are resumed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import torch

from benchmarks.timing import positive_int
from benchmarks.training.comparison import Plan, Row, Run
from benchmarks.training.evidence.paired import right_of
from benchmarks.training.objectives import accuracies, trained_runs, write
from benchmarks.training.photos.command import add_recipe, runs_parser
from benchmarks.training.photos.objectives import print_table
from training.networks.first_size import recipe_network
from training.networks.flops import flop_costs

BASELINE = "convolution"
CLASSES = 10  # the flops of a head hardly depend on them
STEP = 8  # channels of a coarse head
TRIED = (8, 256, 1024)  # the flops are a polynomial of second degree in the channels


@cache
def head_flops(plan: Plan, row: Row) -> tuple[int, ...]:
    """Count the multiply-adds of each head of a row."""
    recipe = plan.recipe_of(Run(row, 0))
    with torch.device("meta"):
        network = recipe_network(recipe, CLASSES)
    return flop_costs(network, recipe.size).heads


def rows_of(plan: Plan, seeds: int) -> list[Row]:
    """Return the rows. Those before `linear` cost about the same."""
    named = partial(Row, seeds=seeds, against=BASELINE)

    def coarse(hidden: int) -> Row:
        return named("coarse", f"--shape.head coarse --shape.hidden {hidden}")

    baseline = named(BASELINE, "--shape.head convolution")
    wanted = sum(head_flops(plan, baseline)[:-1])
    tried = [sum(head_flops(plan, coarse(hidden))[:-1]) for hidden in TRIED]
    square, linear, constant = np.polyfit(TRIED, tried, 2).tolist()
    root = math.sqrt(max(linear**2 - 4 * square * (constant - wanted), 0.0))
    hidden = STEP * max(1, round((root - linear) / (2 * square * STEP)))
    return [baseline, coarse(hidden), named("linear", "--shape.head linear")]


def print_costs(plan: Plan, rows: Sequence[Row]) -> None:
    """Print the flops of each early head, and of all together."""
    print("flops of the heads of early exits, millions")
    for row in rows:
        early = head_flops(plan, row)[:-1]
        cells = "  ".join(f"{each / 1e6:6.2f}" for each in early)
        print(f"{row.name:12} {cells}   together {sum(early) / 1e6:6.2f}   {row.options}")


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = runs_parser(__doc__.partition("\n")[0], "runs/heads")
    add_recipe(parser)
    parser.add_argument("--seeds", type=positive_int, default=3, help="runs of each row")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a user's error."""
    given = build_parser().parse_args(argv)
    options = f"--cache {given.runs / 'cache'} {given.options}"
    plan = Plan(given.data, given.recipe, options)
    rows = rows_of(plan, given.seeds)
    print_costs(plan, rows)
    trained = trained_runs(rows, plan, given)
    if trained is None:
        return 1
    write(given.out, accuracies(trained), rows)
    print_table(right_of(trained, ["held_out", "test"]), rows, BASELINE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
