"""Solve budgets and estimate their accuracy, flops and exit shares, with intervals."""

from __future__ import annotations

import math

import numpy as np

from offramp.bundle.manifest import OperatingPoint
from offramp.bundle.values import Estimate
from training.evaluation.budgeted import folds
from training.evaluation.evaluate import Scored, Tradeoff, apply_thresholds
from training.evaluation.thresholds import best_within, candidates, each_exit, pareto

# The largest mean flops of each named budget, as a share of full depth.
NAMED_SHARES = {"low": 0.25, "medium": 0.50, "high": 0.75}
FULL = "full"
CURVE_POINTS = 64
# 99.9 %, two-sided: a manifest states dozens of intervals, and all should hold at once.
Z = 3.29


def estimate_share(share: float, images: int, new: int | None = None) -> Estimate:
    """Return the interval for a share among `new` images, measured on `images` others.

    Uses the Agresti-Coull adjusted share and the variance of the difference of two samples.
    `None` means as many as `images`.
    """
    adjusted = (share * images + Z * Z / 2) / (images + Z * Z)
    half = Z * math.sqrt(adjusted * (1 - adjusted) * (1 / images + 1 / (new or images)))
    low, high = max(0.0, adjusted - half), min(1.0, adjusted + half)
    return Estimate(value=share, low=min(low, share), high=max(high, share))


def estimate_mean(mean: float, std: float, images: int, new: int | None = None) -> Estimate:
    """Return the interval for a mean over `new` images, measured on `images` others.

    `None` means as many as `images`.
    """
    half = Z * std * math.sqrt(1 / images + 1 / (new or images))
    return Estimate(value=mean, low=mean - half, high=mean + half)


def operating_point(tradeoff: Tradeoff, accuracy: float, images: int) -> OperatingPoint:
    """Return a tradeoff as the manifest states it.

    Args:
        tradeoff: Thresholds, with the flops and exit shares that they give.
        accuracy: Accuracy on images that the thresholds were not solved on, in [0, 1].
        images: Number of images that all of it was measured on.
    """
    return OperatingPoint(
        thresholds=tradeoff.thresholds,
        mean_flops=estimate_mean(tradeoff.mean_flops, tradeoff.std_flops, images),
        accuracy=estimate_share(accuracy, images),
        exit_shares=tuple(estimate_share(share, images) for share in tradeoff.shares),
    )


class CrossFit:
    """Cross-fitted accuracy: thresholds are measured on images that they were not solved on.

    The images are divided into folds. A budget is solved on all folds but one and measured on
    that one, for each fold in turn. Accuracy on the images that thresholds were solved on would
    be too high.

    Args:
        scored: The held-out images, in random order.
    """

    def __init__(self, scored: Scored) -> None:
        self._folds = [(pareto(candidates(rest)), fold) for rest, fold in folds(scored)]

    def accuracy(self, flops: float) -> float:
        """Return the accuracy of the best thresholds with mean flops of at most `flops`."""
        correct, images = 0.0, 0
        for front, fold in self._folds:
            thresholds = np.array(best_within(front, flops).thresholds)
            correct += apply_thresholds(fold, thresholds).accuracy * fold.images
            images += fold.images
        return correct / images


def solve_budgets(
    scored: Scored,
) -> tuple[dict[str, OperatingPoint], tuple[OperatingPoint, ...]]:
    """Return the named budgets, and the curve that serves numeric budgets."""
    images = scored.images
    limits = {name: share * scored.full_flops for name, share in NAMED_SHARES.items()}
    front, cross = pareto(candidates(scored)), CrossFit(scored)
    budgets = {
        name: operating_point(best_within(front, limit), cross.accuracy(limit), images)
        for name, limit in limits.items()
    }
    full = each_exit(scored)[-1]
    budgets[FULL] = operating_point(full, full.accuracy, images)
    curve = [
        operating_point(tradeoff, cross.accuracy(tradeoff.mean_flops), images)
        for tradeoff in _thin(front)
    ]
    return budgets, tuple(curve)


def _thin(front: list[Tradeoff]) -> list[Tradeoff]:
    """Return at most CURVE_POINTS of a front, evenly spaced in flops, including both ends."""
    flops = np.array([tradeoff.mean_flops for tradeoff in front])
    grid = np.linspace(flops[0], flops[-1], CURVE_POINTS)
    chosen = np.unique(np.searchsorted(flops, grid, side="right") - 1)
    return [front[i] for i in chosen]
