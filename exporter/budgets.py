"""What the manifest says of accuracy, flops and exits, as estimates with their intervals."""

from __future__ import annotations

import math

import numpy as np

from offramp.bundle.manifest import Estimate, OperatingPoint
from training.evaluation.budgeted import folds
from training.evaluation.evaluate import Scored, Tradeoff, apply_thresholds
from training.evaluation.thresholds import best_within, candidates, each_exit, pareto

# Mean flops as a share of full depth that each named budget may cost.
NAMED_SHARES = {"low": 0.25, "medium": 0.50, "high": 0.75}
FULL = "full"
CURVE_POINTS = 64
# 99.9 %, two-sided: a manifest makes dozens of statements, and all of them should hold at once.
Z = 3.29


def estimate_share(share: float, images: int, new: int | None = None) -> Estimate:
    """Interval for a share among `new` images (None: as many again), from that among `images`.

    Agresti-Coull's adjusted share, with the variance of the difference of two samples.
    """
    adjusted = (share * images + Z * Z / 2) / (images + Z * Z)
    half = Z * math.sqrt(adjusted * (1 - adjusted) * (1 / images + 1 / (new or images)))
    low, high = max(0.0, adjusted - half), min(1.0, adjusted + half)
    return Estimate(value=share, low=min(low, share), high=max(high, share))


def estimate_mean(mean: float, std: float, images: int, new: int | None = None) -> Estimate:
    """Interval for a mean over `new` images (None: as many again), from that over `images`."""
    half = Z * std * math.sqrt(1 / images + 1 / (new or images))
    return Estimate(value=mean, low=mean - half, high=mean + half)


def operating_point(tradeoff: Tradeoff, accuracy: float, images: int) -> OperatingPoint:
    """An tradeoff as the manifest has it, with an accuracy that is not flattered."""
    return OperatingPoint(
        thresholds=tradeoff.thresholds,
        mean_flops=estimate_mean(tradeoff.mean_flops, tradeoff.std_flops, images),
        accuracy=estimate_share(accuracy, images),
        exit_shares=tuple(estimate_share(share, images) for share in tradeoff.shares),
    )


class CrossFit:
    """What thresholds solved for a budget give on images that they were not solved on.

    The images are parted into folds; a budget is solved on all but one of them and measured
    on that one, in turn. Accuracy on the images that thresholds were chosen on is too good.

    Args:
        scored: the held-out images, in random order.
    """

    def __init__(self, scored: Scored) -> None:
        self._parts = [(pareto(candidates(others)), part) for others, part in folds(scored)]

    def accuracy(self, flops: float) -> float:
        """Accuracy of the best thresholds with mean flops of at most `flops`."""
        right, images = 0.0, 0
        for front, part in self._parts:
            thresholds = np.array(best_within(front, flops).thresholds)
            right += apply_thresholds(part, thresholds).accuracy * part.images
            images += part.images
        return right / images


def solve_budgets(
    scored: Scored,
) -> tuple[dict[str, OperatingPoint], tuple[OperatingPoint, ...]]:
    """The named budgets, and the curve that numeric ones are answered from."""
    images, depth = scored.images, scored.full_flops
    front, cross = pareto(candidates(scored)), CrossFit(scored)
    budgets = {
        name: operating_point(best_within(front, s * depth), cross.accuracy(s * depth), images)
        for name, s in NAMED_SHARES.items()
    }
    full = each_exit(scored)[-1]
    budgets[FULL] = operating_point(full, full.accuracy, images)
    curve = [operating_point(o, cross.accuracy(o.mean_flops), images) for o in _thin(front)]
    return budgets, tuple(curve)


def _thin(front: list[Tradeoff]) -> list[Tradeoff]:
    """At most CURVE_POINTS of a front, evenly spaced in flops, both ends among them."""
    flops = np.array([tradeoff.mean_flops for tradeoff in front])
    wanted = np.linspace(flops[0], flops[-1], CURVE_POINTS)
    picked = np.unique(np.searchsorted(flops, wanted, side="right") - 1)
    return [front[i] for i in picked]
