"""Compare learned scorers with the calibrated maximum, by the images that they are fitted on.

    python -m benchmarks.budgets.scorers --data cifar10 --out docs/results/scorers.csv

A scorer is a logistic regression of agreement with full depth on the probabilities of an exit
(`own exit`), of the exit before it too (`former exit`), or of all exits reached (`learned`). The
`ensemble` also answers by their mean. As in `python -m benchmarks.budgets`, the scorer and the path
are solved on nine tenths of the held-out and test images of a bundle, and measured on the last
tenth. The scorer is fitted on some of the nine tenths only: a bundle that promises something has a
thousand images for it.

The table gives the mean flops, as a share of full depth, at which answers are right, or agree with
full depth, so often, and the difference from the maximum with 95 % intervals, from bootstrap
samples of the images that all scorers have in common.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.budgets.folds import SAMPLES, Outcomes, on_path, outcomes
from benchmarks.budgets.population import SCORERS, Population, population_of
from benchmarks.promises.coverage import SHIPPED
from training.evaluation.budgeted import flops_to_reach
from training.evaluation.evaluate import Floats

FITTED_ON = (1000, 4000, 0)  # images, 0 for all
RIGHT, AGREES = (0.88, 0.8825), (0.99, 0.98, 0.95)
COLUMNS = (*(f"{share:.2%} right" for share in RIGHT), *(f"{share:.0%} agree" for share in AGREES))


def cases() -> list[tuple[str, int]]:
    """Return scorers, and numbers of images to fit them on. The maximum is first."""
    return [("maximum", 0), *((s, n) for s in SCORERS if s != "maximum" for n in FITTED_ON)]


def figures(found: Outcomes, weights: NDArray[np.float32]) -> Floats:
    """Return the flops of each column, [columns]. 1 if the share is never reached."""
    right, agrees = (found.curve(weights, agreement=agreement) for agreement in (False, True))
    reached = [flops_to_reach(right, share) for share in RIGHT]
    reached += [flops_to_reach(agrees, share) for share in AGREES]
    return np.array([1.0 if flops is None else flops for flops in reached])


def compare(images: Population) -> Iterator[tuple[str, int, str, Floats]]:
    """Yield scorer, images, column, and the figure with its difference, low and high."""
    count, rng = images.images, np.random.default_rng(0)
    found = [
        outcomes(images, scorer, lambda answers: on_path(answers.agreeing), fitted_on)
        for scorer, fitted_on in track(cases(), "scorers", transient=True)
    ]
    even = np.full(count, 1 / count, np.float32)
    value = np.stack([figures(each, even) for each in found])
    samples = []
    for _ in track(range(SAMPLES), "bootstrap", transient=True):
        drawn = np.bincount(rng.integers(0, count, count), minlength=count) / count
        table = np.stack([figures(each, drawn.astype(np.float32)) for each in found])
        samples.append(table - table[0])
    low, high = np.quantile(np.stack(samples), [0.025, 0.975], axis=0)
    stacked = np.stack([value, value - value[0], low, high], axis=2)
    for (scorer, fitted_on), rows in zip(cases(), stacked, strict=True):
        for column, row in zip(COLUMNS, rows, strict=True):
            yield scorer, fitted_on or count * 9 // 10, column, row


def main(words: Sequence[str] | None = None) -> int:
    """Measure one bundle, and print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", required=True, help="images that the bundle was made with")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args(words)
    lines = [["scorer", "images", "answers", "flops", "difference", "low", "high"]]
    _, images = population_of(arguments.bundle, arguments.data)
    for scorer, count, column, row in compare(images):
        lines.append([scorer, str(count), column, *(f"{value:.4f}" for value in row)])
        print("  ".join(lines[-1]))
    if arguments.out is not None:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
