"""Calibration error and AUROC of confidences, and the interval of a share. Pure numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Images in bins of equal width by confidence: bin m of M holds ((m - 1) / M, m / M].

    Args:
        images: Number of images in each bin, int64 [bins].
        confidence: Mean confidence in each bin (0 in an empty bin), float64 [bins].
        accuracy: Share of right predictions in each bin (0 in an empty bin), float64 [bins].
    """

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: sum over bins of share * |accuracy - confidence|.

        Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 2,
        equation 3, with 15 bins as in its section 5.
        """
        share = self.images / self.images.sum()
        return float((share * np.abs(self.accuracy - self.confidence)).sum())


def reliability(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Compute the bins of a reliability diagram.

    Args:
        confidence: Confidences [N] in [0, 1], N > 0. The first bin includes 0.
        right: bool [N], True for a right prediction.
        bins: Number of bins.
    """
    assert len(confidence) > 0
    values = confidence.astype(np.float64)
    place = np.searchsorted(np.arange(1, bins) / bins, values)
    images = np.bincount(place, minlength=bins)
    divisor = np.maximum(images, 1)
    return Reliability(
        images,
        np.bincount(place, weights=values, minlength=bins) / divisor,
        np.bincount(place, weights=right, minlength=bins) / divisor,
    )


def auroc(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float | None:
    """Compute the AUROC: the area under the ROC curve of "right" by confidence.

    It equals the probability that a right prediction is more confident than a wrong one, where a
    tie counts half (the Mann-Whitney statistic).

    Args:
        confidence: Confidences [N].
        right: bool [N], True for a right prediction.

    Returns:
        The area in [0, 1], or `None` if all predictions are right or all are wrong.
    """
    levels, place = np.unique(confidence, return_inverse=True)
    rights = np.bincount(place[right], minlength=len(levels))
    wrongs = np.bincount(place[~right], minlength=len(levels))
    if not rights.any() or not wrongs.any():
        return None
    below = np.cumsum(wrongs) - wrongs
    return float((rights * (below + wrongs / 2)).sum() / (rights.sum() * wrongs.sum()))


def wilson(share: float, images: int, z: float = 1.96) -> tuple[float, float]:
    """Compute the Wilson interval of a share among `images` (z = 1.96: 95 %)."""
    total = images + z * z
    centre = (share * images + z * z / 2) / total
    half = z * math.sqrt(share * (1 - share) * images + z * z / 4) / total
    return max(0.0, centre - half), min(1.0, centre + half)
