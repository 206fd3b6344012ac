"""Accuracy against milliseconds and flops: of static networks, and along the front of chains.

Thresholds, and the chain at each time, are chosen on held-out images. Costs and accuracy are those
of the test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.training.evidence.paired import paired
from benchmarks.training.photos.static.costs import Answers
from training.evaluation.budgeted import direct_optimum
from training.evaluation.calibration_error import wilson
from training.evaluation.evaluate import exits_taken
from training.evaluation.thresholds import front

Kind = Literal["static", "chain", "exit"]
BUDGETS = 24  # of the front of a chain


@dataclass(frozen=True, slots=True, eq=False)
class Operating:
    """An operating point of one seed.

    Attributes:
        expected_ms: Mean milliseconds on the held-out images.
        expected: Accuracy on them.
        ms: Mean milliseconds on the test images.
        flops: Mean multiply-adds on them.
        right: Test images that it is right for, bool [N].
    """

    expected_ms: float
    expected: float
    ms: float
    flops: float
    right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a row, as mean over seeds.

    Attributes:
        row: Name of the row.
        kind: Static network, chain, or one exit of a chain for all images.
        ms: Mean milliseconds of an image.
        flops: Mean multiply-adds of an image.
        accuracy: Share of the test images.
        low: Lower end of its 95 % interval over images.
        high: Upper end.
        deviation: Standard deviation over seeds. 0 for one seed.
        against_full: Points of accuracy above the network at full size, by the same seeds.
        error: Standard error of that.
        images: Number of test images.
        seeds: Number of seeds.
    """

    row: str
    kind: Kind
    ms: float
    flops: float
    accuracy: float
    low: float
    high: float
    deviation: float
    against_full: float
    error: float
    images: int
    seeds: int


BySeed = Mapping[str, Operating]


def static_point(held_out: Answers, test: Answers, leave: int = -1) -> Operating:
    """Return the point of all images leaving at one exit, with no other evaluated."""
    evaluated = np.zeros(len(test.ms.flops), dtype=bool)
    evaluated[leave] = True
    ms = float(test.ms.flops_evaluating(evaluated)[leave])
    return Operating(
        ms,
        float(held_out.ms.right[leave].mean()),
        ms,
        float(test.flops.flops_evaluating(evaluated)[leave]),
        test.ms.right[leave],
    )


def chain_points(held_out: Answers, test: Answers) -> Iterator[Operating]:
    """Solve thresholds by milliseconds on held-out images, and yield the points of a chain."""
    images = np.arange(test.ms.images)
    for point in direct_optimum(held_out.ms):
        thresholds = np.array(point.thresholds)
        taken = exits_taken(test.ms.confidence, thresholds)
        ms, flops = (
            float(scored.flops_evaluating(thresholds <= 1)[taken].mean())
            for scored in (test.ms, test.flops)
        )
        right = test.ms.right[taken, images]
        yield Operating(point.mean_flops, point.accuracy, ms, flops, right)


def best_points(points: Iterable[Operating]) -> list[Operating]:
    """Return the Pareto front on the held-out images, in order of milliseconds."""
    return front(points, lambda point: point.expected_ms, lambda point: point.expected)


def along(fronts: Mapping[str, Sequence[Operating]]) -> Iterator[BySeed]:
    """Yield the points of all seeds at the same budgets in milliseconds, without repetitions."""
    low = max(points[0].expected_ms for points in fronts.values())
    high = max(points[-1].expected_ms for points in fronts.values())
    before: BySeed = {}
    for budget in np.geomspace(low, high, BUDGETS) * (1 + 1e-9):
        found = {
            seed: [each for each in points if each.expected_ms <= budget][-1]
            for seed, points in fronts.items()
        }
        if any(found[seed] is not before.get(seed) for seed in found):
            yield found
        before = found


def mean_point(row: str, kind: Kind, seeds: BySeed, full: BySeed, *, folds: bool = False) -> Point:
    """Return the mean of a point over seeds, and its paired difference to full size.

    Args:
        row: Name of the row.
        kind: What the point is.
        seeds: The point of each seed.
        full: The network at full size.
        folds: Each seed has test images of its own, as in a cross-validation.
    """
    points = list(seeds.values())
    accuracies = [float(each.right.mean()) for each in points]
    tested = [len(each.right) for each in points]
    accuracy, images = float(np.mean(accuracies)), sum(tested) if folds else tested[0]
    low, high = wilson(accuracy, images)
    difference = paired(_right(seeds), _right(full))
    return Point(
        row=row,
        kind=kind,
        ms=float(np.mean([each.ms for each in points])),
        flops=float(np.mean([each.flops for each in points])),
        accuracy=accuracy,
        low=low,
        high=high,
        deviation=float(np.std(accuracies, ddof=min(1, len(points) - 1))),
        against_full=float(difference.mean[0]) if difference else np.nan,
        error=float(difference.error[0]) if difference else np.nan,
        images=images,
        seeds=len(points),
    )


def _right(seeds: BySeed) -> dict[str, NDArray[np.float64]]:
    return {seed: each.right[None].astype(np.float64) for seed, each in seeds.items()}
