"""What the manifest says of accuracy, flops and exits, as estimates with their intervals."""

from __future__ import annotations

import math

import numpy as np

from serving.manifest import Estimate, OperatingPoint
from training.calibrate import NEVER, best_within, candidates, pareto
from training.evaluate import Outcome, Scored, apply_thresholds

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


def operating_point(outcome: Outcome, images: int) -> OperatingPoint:
    """An outcome as the manifest has it."""
    return OperatingPoint(
        thresholds=outcome.thresholds,
        mean_flops=estimate_mean(outcome.mean_flops, outcome.std_flops, images),
        accuracy=estimate_share(outcome.accuracy, images),
        exit_shares=tuple(estimate_share(share, images) for share in outcome.shares),
    )


def solve_budgets(
    scored: Scored,
) -> tuple[dict[str, OperatingPoint], tuple[OperatingPoint, ...]]:
    """The named budgets, and the curve that numeric ones are answered from."""
    exits, images = len(scored.flops), scored.images
    front = pareto(candidates(scored))
    full = np.where(np.arange(exits) < exits - 1, NEVER, 0.0)
    named = {
        name: best_within(front, share * scored.flops[-1]) for name, share in NAMED_SHARES.items()
    } | {FULL: apply_thresholds(scored, full)}
    budgets = {name: operating_point(outcome, images) for name, outcome in named.items()}
    return budgets, tuple(operating_point(outcome, images) for outcome in _thin(front))


def _thin(front: list[Outcome]) -> list[Outcome]:
    """At most CURVE_POINTS of a front, evenly spaced in flops, both ends among them."""
    flops = np.array([outcome.mean_flops for outcome in front])
    wanted = np.linspace(flops[0], flops[-1], CURVE_POINTS)
    picked = np.unique(np.searchsorted(flops, wanted, side="right") - 1)
    return [front[i] for i in picked]
