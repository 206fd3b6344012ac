"""Intervals of measured values, and of what the manifest predicts."""

from __future__ import annotations

import math

from offramp.bundle.values import Estimate
from offramp.evaluation.results import Interval

Z_MEASURED = 1.96  # 95 %, two-sided
Z_STATED = 3.29  # 99.9 %, two-sided: the manifest's


def wilson(share: float, images: int, z: float = Z_MEASURED) -> Interval:
    """Return Wilson's interval of a share among `images` (z = 1.96: 95 %)."""
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    spread = share * (1 - share) / images + z * z / (4 * images * images)
    half = z * math.sqrt(spread) / (1 + z * z / images)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def predicted_share(share: float, images: int, new: int, z: float = Z_STATED) -> Interval:
    """Return the prediction interval for a share among `new` images, from that among `images`.

    Agresti and Coull's adjusted share, with the variance of the difference of two samples. For
    `new` = `images` this is the interval of the manifest.
    """
    adjusted = (share * images + z * z / 2) / (images + z * z)
    half = z * math.sqrt(adjusted * (1 - adjusted) * (1 / images + 1 / new))
    return Interval(max(0.0, min(share, adjusted - half)), min(1.0, max(share, adjusted + half)))


def predicted_mean(stated: Estimate, images: int, new: int) -> Interval:
    """Return the manifest's interval for a mean over `images`, scaled to one over `new`."""
    scale = math.sqrt((1 + images / new) / 2)
    return Interval(
        stated.value - scale * (stated.value - stated.low),
        stated.value + scale * (stated.high - stated.value),
    )
