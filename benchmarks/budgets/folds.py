"""Cross-validation of ways to solve thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.budgets.population import SCORERS, Answers, Population, Rows
from exporter.budgets.estimates import rising
from exporter.budgets.path import solve_path
from training.evaluation.budgeted import Curve, direct_optimum, flops_to_reach, paper_procedure
from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds, exits_taken

FOLDS = 10
SAMPLES = 1000  # of the bootstrap
BUDGETS = np.linspace(0.08, 1.0, 93)  # shares of full depth
AVERAGED = (0.12, 0.5)
BASELINE, PATH = "direct optimum", "path for agreement"


Solver = Callable[[Answers], list[Tradeoff]]


def on_path(scored: Scored) -> list[Tradeoff]:
    """Return the points of the path."""
    return [apply_thresholds(scored, each) for each in solve_path(scored).thresholds()]


# Name of a way: its scorer, and its solver.
WAYS: Mapping[str, tuple[str, Solver]] = {
    "MSDNet procedure": ("maximum", lambda images: paper_procedure(images.scored)),
    BASELINE: ("maximum", lambda images: direct_optimum(images.scored)),
    "direct for agreement": ("maximum", lambda images: direct_optimum(images.agreeing)),
    "path for accuracy": ("maximum", lambda images: on_path(images.scored)),
    PATH: ("maximum", lambda images: on_path(images.agreeing)),
    "path, learned scorer": ("learned", lambda images: on_path(images.agreeing)),
    "path, ensemble": ("ensemble", lambda images: on_path(images.agreeing)),
}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Flops as shares of full depth, and the answers that are right or agree, [budgets, N].

    Between two points a budget chooses one for each image at random, so that both are means.
    """

    spent: NDArray[np.float32]
    right: NDArray[np.float32]
    agrees: NDArray[np.float32]

    def curve(self, weights: NDArray[np.float32], *, agreement: bool = False) -> Curve:
        """Return the curve of images with these weights, which never falls."""
        spent, right = self.spent @ weights, (self.agrees if agreement else self.right) @ weights
        order = np.argsort(spent, kind="stable")
        return Curve(spent[order].astype(np.float64), rising(right[order].astype(np.float64)))


def outcomes(images: Population, scorer: str, solve: Solver, fitted_on: int = 0) -> Outcomes:
    """Solve thresholds on all folds but one and measure them on that one, for each fold.

    Args:
        images: The images.
        scorer: A scorer, fitted on images of the same folds.
        solve: The solver.
        fitted_on: Number of images to fit the scorer on. 0: all.
    """
    found = [np.zeros((len(BUDGETS), images.images), np.float32) for _ in range(3)]
    rng = np.random.default_rng(0)
    order = rng.permutation(images.images)
    for fold in np.array_split(order, FOLDS):
        others = np.setdiff1d(order, fold)
        few = rng.permutation(others)[:fitted_on] if fitted_on else others
        answers = SCORERS[scorer](images, few)
        points = sorted(solve(answers.rows(others)), key=lambda point: point.mean_flops)
        full = answers.scored.full_flops
        mix = _mixture(np.array([point.mean_flops for point in points]) / full)
        measured = [_each_image(answers, fold, np.array(p.thresholds)) for p in points]
        for rows, each in zip(found, zip(*measured, strict=True), strict=True):
            rows[:, fold] = mix @ np.stack(each)
        found[0][:, fold] /= full
    return Outcomes(*found)


def _mixture(flops: Floats) -> Floats:
    """Return the share of each point that reaches each of BUDGETS, [budgets, points]."""
    return np.stack([np.interp(BUDGETS, flops, row) for row in np.eye(len(flops))], axis=1)


def _each_image(
    answers: Answers, rows: Rows, thresholds: Floats
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the flops of these images, and whether their answers are right, and agree."""
    scored = answers.scored
    taken = exits_taken(scored.confidence[:, rows], thresholds)
    spent = scored.flops_evaluating(thresholds <= 1)[taken]
    return spent, scored.right[taken, rows], answers.agrees[taken, rows]


def compare(images: Population, accuracies: tuple[float, ...]) -> dict[str, Floats]:
    """Return the figures of each way with intervals, [figures, (value, low, high)].

    The figures are the mean flops at which each accuracy is reached, as shares of full depth, and
    the mean accuracy at AVERAGED, less that of the baseline.
    """
    found = {way: outcomes(images, *WAYS[way]) for way in track(WAYS, "folds", transient=True)}
    count, rng = images.images, np.random.default_rng(0)
    value = _figures(found, np.full(count, 1 / count, np.float32), accuracies)
    samples = []
    for _ in track(range(SAMPLES), "bootstrap", transient=True):
        drawn = np.bincount(rng.integers(0, count, count), minlength=count) / count
        samples.append(_figures(found, drawn.astype(np.float32), accuracies))
    low, high = np.quantile(np.stack(samples), [0.025, 0.975], axis=0)
    return dict(zip(found, np.stack([value, low, high], axis=2), strict=True))


def _figures(
    found: Mapping[str, Outcomes], weights: NDArray[np.float32], accuracies: tuple[float, ...]
) -> Floats:
    rows = []
    for each in found.values():
        curve = each.curve(weights)
        mean = np.interp(np.linspace(*AVERAGED, 40), curve.flops, curve.accuracy).mean()
        reached = [flops_to_reach(curve, accuracy) for accuracy in accuracies]
        rows.append([*(1.0 if flops is None else flops for flops in reached), float(mean)])
    table = np.array(rows)
    table[:, -1] -= table[list(found).index(BASELINE), -1]
    return table
