"""Choose the budgets and the curve of a manifest on the path, with figures that are cross-fitted.

Each operating point has one set of figures, wherever it is stated. Mean flops and exit shares are
those of its thresholds on all held-out images. Its accuracy and its agreement with full depth are
cross-fitted: the path is solved on all folds but one and measured on that one, for each fold in
turn. On the images that thresholds were solved on they would be too high. Along the path they are
made to rise with the flops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from exporter.budgets.estimates import estimate_mean, estimate_share, rising
from exporter.budgets.path import RISKS, Path, solve_path
from offramp.bundle.manifest import OperatingPoint
from offramp.bundle.values import SolvedFor
from training.evaluation.budgeted import folds
from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds, exits_taken

# The largest mean flops of each named budget, as a share of full depth.
NAMED_SHARES = {"low": 0.25, "medium": 0.50, "high": 0.75}
FULL = "full"
CURVE_POINTS = 64
BISECTIONS = 16  # from two neighbouring risks to the flops of a point

Right = NDArray[np.bool_]
Solved = tuple[dict[str, OperatingPoint], tuple[OperatingPoint, ...]]


def operating_point(
    tradeoff: Tradeoff,
    accuracy: float,
    images: int,
    *,
    agreement: float | None = None,
    risk: float | None = None,
) -> OperatingPoint:
    """Return a tradeoff as the manifest states it.

    Args:
        tradeoff: Thresholds, with the flops and exit shares that they give.
        accuracy: Accuracy on images that the thresholds were not solved on, in [0, 1].
        images: Number of images that all of it was measured on.
        agreement: Share of answers on such images that agree with full depth.
        risk: Place on the path.
    """
    return OperatingPoint(
        thresholds=tradeoff.thresholds,
        mean_flops=estimate_mean(tradeoff.mean_flops, tradeoff.std_flops, images),
        accuracy=estimate_share(accuracy, images),
        exit_shares=tuple(estimate_share(share, images) for share in tradeoff.shares),
        agreement=None if agreement is None else estimate_share(agreement, images),
        risk=risk,
    )


def solve_budgets(
    scored: Scored, agrees: Right | None = None, solved_for: SolvedFor = "agreement"
) -> Solved:
    """Return the named budgets, and the curve that serves numeric budgets.

    Args:
        scored: Held-out images, in random order.
        agrees: Whether the answer of each exit is that of full depth, bool [exits, N]. `None`: not
            known. No agreement is stated then, and the path is solved for `scored.right`.
        solved_for: Answers without a loss: those that agree with full depth, or that are right.
    """
    goal, measured = scored, [scored.right]
    if agrees is not None:
        measured.append(agrees)
        goal = replace(scored, right=agrees) if solved_for == "agreement" else scored
    limits = {name: share * scored.full_flops for name, share in NAMED_SHARES.items()}
    spaced = np.linspace(scored.flops[0], scored.full_flops, CURVE_POINTS - len(limits))
    path = solve_path(goal)
    risks = _risks_within(path, scored, np.array([*spaced, *limits.values()]))
    full, *points = _points(path, scored, goal, measured, risks)
    if not points or full.accuracy.value >= points[0].accuracy.value:
        points.insert(0, full)  # else a cheaper point is as accurate, and ends the curve
    points.reverse()
    budgets = {name: _dearest(points, limit) for name, limit in limits.items()}
    return {**budgets, FULL: full}, tuple(points)


def _risks_within(path: Path, scored: Scored, limits: Floats) -> Floats:
    """Return the least risk with mean flops within each limit, ascending, from 0 to 1.

    Where the first exit costs more than the limit, that is 1. All limits are bisected at once.
    """
    flops = _mean_flops(scored, path.thresholds())
    first = np.array([int(np.argmax(flops <= limit)) for limit in limits])
    first = np.where(flops.min() > limits, len(RISKS) - 1, first)
    low, high = RISKS[np.maximum(first - 1, 0)], RISKS[first]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        within = _mean_flops(scored, path.thresholds(middle)) <= limits
        low, high = np.where(within, low, middle), np.where(within, middle, high)
    return np.unique([0.0, *high, 1.0])


def _mean_flops(scored: Scored, thresholds: Floats) -> Floats:
    """Return the mean flops of each point, [points], for thresholds [points, exits]."""
    spent = (
        scored.flops_evaluating(each <= 1)[exits_taken(scored.confidence, each)].mean()
        for each in thresholds
    )
    return np.fromiter(spent, np.float64, len(thresholds))


def _points(
    path: Path, scored: Scored, goal: Scored, measured: Sequence[Right], risks: Floats
) -> list[OperatingPoint]:
    """Return the points at these risks from full depth on, each cheaper than all before it.

    Args:
        path: The path.
        scored: Images.
        goal: The same, with `right` as the path is solved for.
        measured: Right answers, and those that agree with full depth if that is known.
        risks: Places on the path, ascending from 0.
    """
    found = [apply_thresholds(scored, each) for each in path.thresholds(risks)]
    flops = np.array([each.mean_flops for each in found])
    kept = np.flatnonzero(flops < np.minimum.accumulate(np.append(np.inf, flops[:-1])))
    spent, *shares = _cross_fit(goal, measured, risks[kept])
    # The same risk costs somewhat more or less on other images. A figure is that of equal flops.
    spent = np.maximum.accumulate(spent[::-1])
    stated = [np.interp(flops[kept], spent, each[::-1]) for each in shares]
    for own, each in zip(shares, stated, strict=True):
        each[0], each[1:] = own[0], rising(each[:0:-1])[::-1]
    return [
        operating_point(
            found[i],
            float(share[0]),
            scored.images,
            agreement=float(share[1]) if len(measured) > 1 else None,
            risk=float(risks[i]),
        )
        for i, *share in zip(kept, *stated, strict=True)
    ]


def _cross_fit(goal: Scored, measured: Sequence[Right], risks: Floats) -> Floats:
    """Return mean flops, and shares of answers, on images that the path was not solved on.

    Args:
        goal: Images, with `right` as the path is solved for.
        measured: For each share, whether the answer of an exit counts, bool [exits, N].
        risks: Places on the path.

    Returns:
        float64 [1 + measured, points].
    """
    totals = np.zeros((1 + len(measured), len(risks)))
    parts = zip(folds(goal), *(folds(replace(goal, right=each)) for each in measured), strict=True)
    for (others, part), *counted in parts:
        images = np.arange(part.images)
        for j, thresholds in enumerate(solve_path(others).thresholds(risks)):
            taken = exits_taken(part.confidence, thresholds)
            totals[0, j] += part.flops_evaluating(thresholds <= 1)[taken].sum()
            totals[1:, j] += [each.right[taken, images].sum() for _, each in counted]
    return totals / goal.images


def _dearest(points: Sequence[OperatingPoint], limit: float) -> OperatingPoint:
    """Return the last point with mean flops of at most `limit`, else the cheapest."""
    within = [point for point in points if point.mean_flops.value <= limit]
    return within[-1] if within else points[0]
