"""Prediction intervals of a manifest's figures, and monotone regression."""

from __future__ import annotations

import math

import numpy as np

from offramp.bundle.values import Estimate
from training.evaluation.evaluate import Floats

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


def rising(values: Floats) -> Floats:
    """Return the closest sequence that never falls, in the sum of squares.

    Neighbours that fall are replaced by their mean, until there are no such neighbours (pool
    adjacent violators: Ayer, Brunk, Ewing, Reid and Silverman, 1955).

    Args:
        values: Sequence, float64 [N].
    """
    totals: list[float] = []
    counts: list[int] = []
    for value in values.tolist():
        total, count = value, 1
        while counts and totals[-1] * count >= total * counts[-1]:
            total += totals.pop()
            count += counts.pop()
        totals.append(total)
        counts.append(count)
    return np.repeat(np.array(totals) / np.array(counts), counts) if counts else values
