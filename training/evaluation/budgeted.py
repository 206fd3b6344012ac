"""Budgeted batch evaluation: accuracy against mean flops, on images that chose nothing.

A procedure solves operating points on held-out images. Their curve is measured on a test set,
or cross-fitted: solved on all folds of the held-out images but one and measured on that one, in
turn. Between two neighbouring points a curve is straight: what a coin tossed for each image
gives. Left of its first point it does not exist, right of its last it stays level, for a
budget need not be spent. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds
from training.evaluation.thresholds import baseline_curve, candidates, each_exit, pareto

FOLDS = 5
BUDGETS = 61  # at which a cross-fitted curve is measured
SHARES = (0.25, 0.5, 0.75, 1.0)  # of full depth's flops, in the table
LESS = (0.0, 0.005, 0.01)  # accuracy below full depth's, in the table


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against mean flops.

    Args:
        flops: float64 [points], ascending.
        accuracy: float64 [points].
    """

    flops: Floats
    accuracy: Floats


Procedure = Callable[[Scored], list[Tradeoff]]


def paper_procedure(scored: Scored) -> list[Tradeoff]:
    """MSDNet's 40 points between its limits: every image at the first exit, or at the last."""
    alone = each_exit(scored)
    return [alone[0], *baseline_curve(scored), alone[-1]]


def direct_optimum(scored: Scored) -> list[Tradeoff]:
    """Of all candidates those that nothing beats, the paper's points among them; full depth.

    Full depth ends the curve although a cheaper point may beat it on these images: on a plateau
    that point is the luckiest of many, and on new images full depth is the better one.
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
    """Operating points, solved elsewhere, on these images."""
    points = [apply_thresholds(scored, np.array(point.thresholds)) for point in solved]
    return _curve(points)


def _curve(points: list[Tradeoff]) -> Curve:
    ordered = sorted(points, key=lambda point: point.mean_flops)
    return Curve(
        np.array([point.mean_flops for point in ordered]),
        np.array([point.accuracy for point in ordered]),
    )


def folds(scored: Scored) -> Iterator[tuple[Scored, Scored]]:
    """The images in FOLDS parts, each in turn beside all the others: (others, part)."""
    number = np.arange(scored.images) % FOLDS
    for fold in range(min(FOLDS, scored.images)):
        others = scored.select(number != fold) if scored.images > 1 else scored
        yield others, scored.select(number == fold)


def crossfit(scored: Scored, procedure: Procedure) -> Curve:
    """A procedure's curve with no image among those that its thresholds were solved on.

    At each of BUDGETS mean flops from the first exit's to full depth's.

    Args:
        scored: the held-out images, in random order.
        procedure: solves operating points.
    """
    budgets = np.linspace(scored.flops[0], scored.full_flops, BUDGETS)
    spent, right = np.zeros(BUDGETS), np.zeros(BUDGETS)
    for others, part in folds(scored):
        solved = sorted(procedure(others), key=lambda point: point.mean_flops)
        expected = [point.mean_flops for point in solved]
        seen = [apply_thresholds(part, np.array(point.thresholds)) for point in solved]
        weight = part.images / scored.images
        spent += weight * np.interp(budgets, expected, [point.mean_flops for point in seen])
        right += weight * np.interp(budgets, expected, [point.accuracy for point in seen])
    order = np.argsort(spent, kind="stable")
    return Curve(spent[order], right[order])


def accuracy_at(curve: Curve, flops: float) -> float | None:
    """Accuracy for these mean flops; None where the first point is dearer."""
    # rounding may put the first exit's mean a little above its flops
    if flops < curve.flops[0] * (1 - 1e-9):
        return None
    return float(np.interp(flops, curve.flops, curve.accuracy))


def flops_to_reach(curve: Curve, accuracy: float) -> float | None:
    """The least mean flops at which the curve is at `accuracy`; None where it never is."""
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
    """Accuracy averaged over mean flops from `low` (where the curve begins) to `high`."""
    if high <= low:
        return float(np.interp(low, curve.flops, curve.accuracy))
    inside = curve.flops[(curve.flops > low) & (curve.flops < high)]
    flops = np.concatenate([[low], inside, [high]])
    accuracy = np.interp(flops, curve.flops, curve.accuracy)
    return float(np.trapezoid(accuracy, flops) / (high - low))


@dataclass(frozen=True, slots=True)
class Summary:
    """A curve in some numbers.

    Args:
        accuracies: at SHARES of full depth's flops; None where a curve begins later.
        flops: to reach full depth's accuracy less LESS; None where a curve never does.
        area: accuracy averaged over flops from the first exit's to full depth's.
    """

    accuracies: tuple[float | None, ...]
    flops: tuple[float | None, ...]
    area: float


def summarize(curve: Curve, scored: Scored) -> Summary:
    """The numbers of a curve that belongs to these images."""
    first, full = float(scored.flops[0]), scored.full_flops
    accuracy = float(scored.right[-1].mean())
    return Summary(
        tuple(accuracy_at(curve, share * full) for share in SHARES),
        tuple(flops_to_reach(curve, accuracy - less) for less in LESS),
        area_under(curve, first, full),
    )
