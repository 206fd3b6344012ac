"""Compare the path of operating points with other ways to solve thresholds, by cross-validation.

    python -m benchmarks.budgets --data cifar10 --out docs/results/paths.csv

The held-out and test images of a bundle are the population. In ten folds, thresholds are solved on
nine tenths and measured on the last tenth. For each way the table gives the mean flops at which an
accuracy is reached, as a share of full depth, and the accuracy averaged over mean flops from 12 to
50 % of full depth, less that of the direct optimum. Intervals are at 95 %, from bootstrap samples
of the images.

Then thresholds are solved on few images that are drawn at random, and measured on all others. The
table gives the accuracy at the flops of each exit, less that of all images leaving there.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.goals import Goal, print_goals
from benchmarks.promises import SHIPPED
from exporter.budgets import solve_budgets
from exporter.budgets.estimates import rising
from exporter.budgets.path import solve_path
from exporter.bundle import read_bundle
from exporter.recalibrate import own_files
from exporter.verify import Chain
from offramp.bundle.manifest import Manifest
from training.data.datasets import load_split
from training.evaluation.budgeted import Curve, direct_optimum, flops_to_reach, paper_procedure
from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds, exits_taken
from training.evaluation.thresholds import best_within, each_exit

FOLDS = 10
SAMPLES = 1000  # of the bootstrap
BUDGETS = np.linspace(0.08, 1.0, 116)  # shares of full depth
AVERAGED = (0.12, 0.5)
FEW = (40, 80, 300, 1000)
GOALS = {0.88: 0.22, 0.8825: 0.26}  # accuracy, share of full depth's flops
BASELINE, PATH = "direct optimum", "path, agreement"


@dataclass(frozen=True, slots=True)
class Answers:
    """Images with right answers, and those that agree with full depth, bool [exits, N]."""

    scored: Scored
    agrees: NDArray[np.bool_]

    @property
    def agreeing(self) -> Scored:
        """Return the images with answers that are right if full depth agrees."""
        return replace(self.scored, right=self.agrees)

    def rows(self, which: NDArray[np.int64]) -> Answers:
        """Return some of the images."""
        mask = np.zeros(self.scored.images, dtype=bool)
        mask[which] = True
        return Answers(self.scored.select(mask), self.agrees[:, mask])


def on_path(scored: Scored) -> list[Tradeoff]:
    """Return the points of the path."""
    return [apply_thresholds(scored, each) for each in solve_path(scored).thresholds()]


WAYS: Mapping[str, Callable[[Answers], list[Tradeoff]]] = {
    "MSDNet procedure": lambda images: paper_procedure(images.scored),
    BASELINE: lambda images: direct_optimum(images.scored),
    "direct optimum, agreement": lambda images: direct_optimum(images.agreeing),
    "path, accuracy": lambda images: on_path(images.scored),
    PATH: lambda images: on_path(images.agreeing),
}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Flops as shares of full depth, and right answers, of each budget and image, [budgets, N].

    Between two points a budget chooses one for each image at random, so that both are means.
    """

    spent: NDArray[np.float32]
    right: NDArray[np.float32]

    def curve(self, weights: NDArray[np.float32]) -> Curve:
        """Return the curve of images with these weights, which never falls."""
        spent, right = self.spent @ weights, self.right @ weights
        order = np.argsort(spent, kind="stable")
        return Curve(spent[order].astype(np.float64), rising(right[order].astype(np.float64)))


def outcomes(images: Answers, solve: Callable[[Answers], list[Tradeoff]]) -> Outcomes:
    """Solve thresholds on all folds but one and measure them on that one, for each fold."""
    count, full = images.scored.images, images.scored.full_flops
    spent, right = (np.zeros((len(BUDGETS), count), np.float32) for _ in range(2))
    order = np.random.default_rng(0).permutation(count)
    for fold in np.array_split(order, FOLDS):
        points = sorted(solve(images.rows(np.setdiff1d(order, fold))), key=lambda p: p.mean_flops)
        mix = _mixture(np.array([point.mean_flops for point in points]) / full)
        measured = [_each_image(images.scored, fold, np.array(p.thresholds)) for p in points]
        spent[:, fold] = mix @ np.stack([flops / full for flops, _ in measured])
        right[:, fold] = mix @ np.stack([right for _, right in measured])
    return Outcomes(spent, right)


def _mixture(flops: Floats) -> Floats:
    """Return the share of each point that reaches each of BUDGETS, [budgets, points]."""
    return np.stack([np.interp(BUDGETS, flops, row) for row in np.eye(len(flops))], axis=1)


def _each_image(
    scored: Scored, images: NDArray[np.int64], thresholds: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the flops of these images, and whether their answers are right."""
    taken = exits_taken(scored.confidence[:, images], thresholds)
    return scored.flops_evaluating(thresholds <= 1)[taken], scored.right[taken, images]


def statistics(found: Mapping[str, Outcomes], weights: NDArray[np.float32]) -> Floats:
    """Return for each way the flops to reach each goal, and its mean accuracy, [ways, figures]."""
    rows = []
    for each in found.values():
        curve = each.curve(weights)
        mean = np.interp(np.linspace(*AVERAGED, 40), curve.flops, curve.accuracy).mean()
        reached = [flops_to_reach(curve, accuracy) for accuracy in GOALS]
        rows.append([*(1.0 if flops is None else flops for flops in reached), float(mean)])
    table = np.array(rows)
    table[:, -1] -= table[list(found).index(BASELINE), -1]
    return table


def compare(images: Answers) -> tuple[list[str], Floats]:
    """Return the ways, and their figures with intervals, [ways, figures, (value, low, high)]."""
    found = {name: outcomes(images, solve) for name, solve in track(WAYS.items(), transient=True)}
    count, rng = images.scored.images, np.random.default_rng(0)
    value = statistics(found, np.full(count, 1 / count, np.float32))
    samples = [
        statistics(
            found,
            (np.bincount(rng.integers(0, count, count), minlength=count) / count).astype(
                np.float32
            ),
        )
        for _ in track(range(SAMPLES), "bootstrap", transient=True)
    ]
    low, high = np.quantile(np.stack(samples), [0.025, 0.975], axis=0)
    return list(found), np.stack([value, low, high], axis=2)


def few_images(images: Answers, draws: int) -> Iterator[dict[str, object]]:
    """Yield the accuracy at the flops of each exit, less that of the exit, by number of images."""
    rng = np.random.default_rng(0)
    for count in FEW:
        gains = np.zeros((draws, 2, len(images.scored.flops) - 1))
        for draw in track(range(draws), f"{count} images", transient=True):
            order = rng.permutation(images.scored.images)
            gains[draw] = _gains(images.rows(order[:count]), images.rows(order[count:]).scored)
        for k in range(gains.shape[2]):
            row: dict[str, object] = {"images": count, "exit": k + 1}
            for way, values in zip(("path", BASELINE), gains[:, :, k].T, strict=True):
                row[way] = round(100 * float(values.mean()), 2)
                row[f"{way}, error"] = round(100 * float(values.std() / draws**0.5), 3)
            yield row


def _gains(few: Answers, others: Scored) -> Floats:
    """Return the gain over each early exit, [path and direct optimum, exits - 1]."""
    curve = solve_budgets(few.scored, few.agrees)[1]
    direct = direct_optimum(few.scored)
    alone = each_exit(others)[:-1]
    limits = [exit_.mean_flops * (1 + 1e-9) for exit_ in alone]
    chosen = [
        [[p for p in curve if p.mean_flops.value <= limit][-1].thresholds for limit in limits],
        [best_within(direct, limit).thresholds for limit in limits],
    ]
    return np.array(
        [
            [
                apply_thresholds(others, np.array(thresholds)).accuracy - exit_.accuracy
                for thresholds, exit_ in zip(row, alone, strict=True)
            ]
            for row in chosen
        ]
    )


def population_of(bundle: Path, data: str) -> tuple[Manifest, Answers]:
    """Run a bundle on its held-out images and on the test images."""
    manifest, graphs = read_bundle(bundle)
    size = manifest.input.height
    files = [own_files(manifest, data).held_out, load_split(data, "test", size, manifest.labels)]
    sets = [each.decoded() for each in files]
    found = [Chain(graphs).run(images.pixels) for images in sets]
    classes = np.concatenate([each.classes for each in found], axis=1)
    targets = np.concatenate([images.targets.numpy() for images in sets])
    flops = np.array([stage.flops_to_exit for stage in manifest.stages], dtype=np.float64)
    heads = np.array([stage.head_flops for stage in manifest.stages], dtype=np.float64)
    confidence = np.concatenate([each.confidence for each in found], axis=1)
    return manifest, Answers(
        Scored(confidence, classes == targets, flops, heads), classes == classes[-1]
    )


def report(manifest: Manifest, images: Answers, draws: int, out: Path | None) -> int:
    """Print the tables and the goals, and write the first table to a file if one is given."""
    print(f"{manifest.name} {manifest.version}: {images.scored.images:,} images, {FOLDS} folds")
    names, figures = compare(images)
    columns = [
        *(f"flops for {100 * accuracy:g} %" for accuracy in GOALS),
        "mean accuracy gained, %",
    ]
    rows = []
    for name, row in zip(names, figures, strict=True):
        texts = []
        for column, (value, low, high) in zip(columns, row, strict=True):
            scale = 100 if column == columns[-1] else 1
            texts.append(f"{scale * value:.3f} [{scale * low:.3f}, {scale * high:.3f}]")
            rows.append(
                {
                    "way": name,
                    "figure": column,
                    "value": round(scale * value, 4),
                    "low": round(scale * low, 4),
                    "high": round(scale * high, 4),
                }
            )
        print(f"{name:26} " + "   ".join(texts))
    for line in few_images(images, draws):
        print("  ".join(f"{key} {value}" for key, value in line.items()))
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    path = figures[names.index(PATH)]
    return print_goals(
        Goal(
            f"at most {share} of full depth's flops for {100 * accuracy:g} %",
            f"{value:.3f} [{low:.3f}, {high:.3f}]",
            value <= share,
        )
        for (accuracy, share), (value, low, high) in zip(GOALS.items(), path, strict=False)
    )


def main(words: Sequence[str] | None = None) -> int:
    """Measure one bundle, print the tables, and return the exit status of the goals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", required=True, help="images that the bundle was made with")
    parser.add_argument("--draws", type=int, default=50, help="draws of few images (50)")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args(words)
    population = population_of(arguments.bundle, arguments.data)
    return report(*population, arguments.draws, arguments.out)


if __name__ == "__main__":
    raise SystemExit(main())
