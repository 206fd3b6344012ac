"""Compare the path of operating points with other ways to solve thresholds, by cross-validation.

    python -m benchmarks.budgets --data cifar10 --out docs/results/paths.csv

The held-out and test images of a bundle are the population. In ten folds, thresholds (and scorers)
are solved on nine tenths and measured on the last tenth. For each way the table gives the mean
flops at which an accuracy is reached, as a share of full depth, and the accuracy averaged over mean
flops from 12 to 50 % of full depth, less that of the direct optimum. Intervals are at 95 %, from
bootstrap samples of the images.

Then budgets are solved on few images that are drawn at random, and measured on all others. The
table gives the accuracy at the flops of each exit, less that of all images leaving there. Exit
status 1 if a goal is not met.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.budgets.few_images import few_images
from benchmarks.budgets.folds import FOLDS, PATH, compare
from benchmarks.budgets.population import Population, maximum, population_of
from benchmarks.goals import Goal, print_goals
from benchmarks.promises.coverage import SHIPPED
from offramp.bundle.manifest import Manifest
from training.evaluation.evaluate import Floats

GOALS = {0.88: 0.22, 0.8825: 0.26}  # accuracy, share of full depth's flops


def printed(found: Mapping[str, Floats]) -> Iterator[list[str | float]]:
    """Print the figures of each way, and yield them as rows."""
    columns = [*(f"flops for {100 * accuracy:g} %" for accuracy in GOALS), "points gained"]
    for way, figures in found.items():
        for column, figure in zip(columns, figures, strict=True):
            value, low, high = (100 if column == columns[-1] else 1) * figure
            print(f"{way:22} {column:20} {value:6.3f} [{low:.3f}, {high:.3f}]")
            yield [way, column, *(round(float(each), 4) for each in (value, low, high))]


def report(manifest: Manifest, images: Population, draws: int, out: Path | None) -> int:
    """Print the tables and the goals, and write the first table to a file if one is given."""
    print(f"{manifest.name} {manifest.version}: {images.images:,} images, {FOLDS} folds")
    found = compare(images, tuple(GOALS))
    rows = list(printed(found))
    for line in few_images(maximum(images, np.arange(0)), draws):
        print("  ".join(f"{key} {value}" for key, value in line.items()))
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([["way", "figure", "value", "low", "high"], *rows])
    goals = zip(GOALS.items(), found[PATH], strict=False)
    return print_goals(
        Goal(
            f"at most {share:g} of full depth's flops for {100 * accuracy:g} %",
            f"{value:.3f} [{low:.3f}, {high:.3f}]",
            bool(value <= share),
        )
        for (accuracy, share), (value, low, high) in goals
    )


def main(words: Sequence[str] | None = None) -> int:
    """Measure one bundle, print the tables, and return the exit status of the goals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", required=True, help="images that the bundle was made with")
    parser.add_argument("--draws", type=int, default=20, help="draws of few images (20)")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args(words)
    population = population_of(arguments.bundle, arguments.data)
    return report(*population, arguments.draws, arguments.out)


if __name__ == "__main__":
    raise SystemExit(main())
