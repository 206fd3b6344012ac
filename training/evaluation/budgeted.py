"""Budgeted batch evaluation: accuracy against mean flops, on images that no choice depends on.

A procedure solves operating points on held-out images. Their curve is measured on a test set, or
cross-fitted: for each fold, solved on all other folds of the held-out images and measured on this
one. Between two neighbouring points a curve is linear, which a random choice between the two
points for each image achieves. Below its first point a curve has no value. Above its last point it
is constant, because a budget does not have to be spent. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds
from training.evaluation.thresholds import baseline_curve, candidates, each_exit, pareto

FOLDS = 5
BUDGETS = 61  # number of budgets in a cross-fitted curve
SHARES = (0.25, 0.5, 0.75, 1.0)  # budgets in the table, as shares of full depth's flops
LESS = (0.0, 0.005, 0.01)  # accuracies in the table, subtracted from that of full depth


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against mean flops.

    Args:
        flops: Mean flops of the points, float64 [points], ascending.
        accuracy: Accuracy of the points, float64 [points]. In a curve of agreement: the share of
            answers that agree with full depth.
    """

    flops: Floats
    accuracy: Floats


Procedure = Callable[[Scored], list[Tradeoff]]


def paper_procedure(scored: Scored) -> list[Tradeoff]:
    """Return MSDNet's 40 points and its two limits: all images at the first or the last exit."""
    alone = each_exit(scored)
    return [alone[0], *baseline_curve(scored), alone[-1]]


def direct_optimum(scored: Scored) -> list[Tradeoff]:
    """Return the Pareto-optimal candidates, which include the paper's points, and full depth.

    Full depth ends the curve, even if a cheaper point has a higher accuracy on these images. On a
    plateau such a point is the luckiest of many, and on new images full depth is better.
    """
    front = pareto(candidates(scored))
    full = each_exit(scored)[-1]
    return front if front[-1].mean_flops >= full.mean_flops else [*front, full]


PROCEDURES: Mapping[str, Procedure] = {
    "direct optimum": direct_optimum,
    "MSDNet procedure": paper_procedure,
    "each exit alone": each_exit,
}


def measure(solved: list[Tradeoff], scored: Scored) -> Curve:
    """Measure operating points on these images."""
    points = [apply_thresholds(scored, np.array(point.thresholds)) for point in solved]
    return _curve(points)


def _curve(points: list[Tradeoff]) -> Curve:
    ordered = sorted(points, key=lambda point: point.mean_flops)
    return Curve(
        np.array([point.mean_flops for point in ordered]),
        np.array([point.accuracy for point in ordered]),
    )


def folds(scored: Scored) -> Iterator[tuple[Scored, Scored]]:
    """Divide the images into FOLDS parts and yield (all other parts, part) for each part."""
    number = np.arange(scored.images) % FOLDS
    for fold in range(min(FOLDS, scored.images)):
        others = scored.select(number != fold) if scored.images > 1 else scored
        yield others, scored.select(number == fold)


def crossfit(scored: Scored, procedure: Procedure) -> Curve:
    """Measure a procedure's curve, with the thresholds for an image solved on other images.

    The curve has BUDGETS points, from the mean flops of the first exit to those of full depth.

    Args:
        scored: Held-out images, in random order.
        procedure: Function that solves operating points.
    """
    return crossfit_measures(scored, procedure, [scored.right])[0]


def crossfit_measures(
    scored: Scored, procedure: Procedure, measures: Sequence[NDArray[np.bool_]]
) -> list[Curve]:
    """Measure several curves of the same thresholds, as `crossfit` does.

    Args:
        scored: Held-out images, in random order.
        procedure: Function that solves operating points.
        measures: Answers that count in each curve, bool [exits, N]: those that are right, or those
            that agree with full depth.
    """
    budgets = np.linspace(scored.flops[0], scored.full_flops, BUDGETS)
    spent, counted = np.zeros(BUDGETS), np.zeros((len(measures), BUDGETS))
    counting = [folds(replace(scored, right=each)) for each in measures]
    for (others, part), *parts in zip(folds(scored), *counting, strict=True):
        solved = sorted(procedure(others), key=lambda point: point.mean_flops)
        expected = [point.mean_flops for point in solved]
        weight = part.images / scored.images
        for k, (_, each) in enumerate(parts):
            measured = [apply_thresholds(each, np.array(point.thresholds)) for point in solved]
            shares = [point.accuracy for point in measured]
            counted[k] += weight * np.interp(budgets, expected, shares)
        spent += weight * np.interp(budgets, expected, [point.mean_flops for point in measured])
    order = np.argsort(spent, kind="stable")
    return [Curve(spent[order], each[order]) for each in counted]


def accuracy_at(curve: Curve, flops: float) -> float | None:
    """Return the accuracy for these mean flops, or `None` if the first point costs more."""
    # by rounding, the mean of the first exit can be slightly above its flops
    if flops < curve.flops[0] * (1 - 1e-9):
        return None
    return float(np.interp(flops, curve.flops, curve.accuracy))


def flops_to_reach(curve: Curve, accuracy: float) -> float | None:
    """Return the least mean flops at which the curve reaches `accuracy`, or `None`."""
    above = np.flatnonzero(curve.accuracy >= accuracy)
    if len(above) == 0:
        return None
    k = int(above[0])
    if k == 0:
        return float(curve.flops[0])
    low, high = curve.accuracy[k - 1 : k + 1]
    share = (accuracy - low) / (high - low)
    return float(curve.flops[k - 1] + share * (curve.flops[k] - curve.flops[k - 1]))


def area_under(curve: Curve, low: float, high: float) -> float:
    """Return the accuracy averaged over mean flops from `low` (start of the curve) to `high`."""
    if high <= low:
        return float(np.interp(low, curve.flops, curve.accuracy))
    inside = curve.flops[(curve.flops > low) & (curve.flops < high)]
    flops = np.concatenate([[low], inside, [high]])
    accuracy = np.interp(flops, curve.flops, curve.accuracy)
    return float(np.trapezoid(accuracy, flops) / (high - low))


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary of a curve.

    Args:
        accuracies: Accuracies at SHARES of full depth's flops, or `None` below the first point.
        flops: Flops to reach full depth's accuracy minus LESS, or `None` if the curve does not.
        area: Accuracy averaged over flops, from those of the first exit to those of full depth.
    """

    accuracies: tuple[float | None, ...]
    flops: tuple[float | None, ...]
    area: float


def summarize(curve: Curve, scored: Scored) -> Summary:
    """Summarise a curve that was measured on these images."""
    first, full = float(scored.flops[0]), scored.full_flops
    accuracy = float(scored.right[-1].mean())
    return Summary(
        tuple(accuracy_at(curve, share * full) for share in SHARES),
        tuple(flops_to_reach(curve, accuracy - less) for less in LESS),
        area_under(curve, first, full),
    )
