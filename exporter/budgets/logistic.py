"""Logistic regression on polynomials of a logit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import Floats

_SMALLEST = 1e-7  # distance of a confidence from 0 and 1 in a logit, as in a float32
_CONSTANT = 1e-9  # largest relative spread of a column whose numbers differ by rounding alone
_RIDGE = 1e-4  # of each slope, in units of the images' number


def logit(confidence: NDArray[np.floating]) -> Floats:
    """Return log(c / (1 - c)), finite also for a confidence of 0 or 1."""
    inside = np.clip(confidence.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    result: Floats = np.log(inside / (1 - inside))
    return result


def logistic(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    inside = np.clip(x, -500, 500)  # beyond, exp overflows
    share: Floats = 1 / (1 + np.exp(-inside))
    return share


def fit_logistic(columns: Floats, y: NDArray[np.bool_]) -> Floats:
    """Fit P(y) = logistic(weights[0] + weights[1:] @ columns) by maximum likelihood.

    Newton's method on standardized columns, with a small ridge. Two images at their mean are added,
    one with y and one without, so that the fit is finite where all y are alike (Agresti and Coull,
    1998, do so for a share).

    Args:
        columns: Values, float64 [columns, N].
        y: Outcomes, bool [N].

    Returns:
        The weights, float64 [columns + 1].
    """
    width, images = columns.shape
    mean = columns.mean(axis=1) if images else np.zeros(width)
    spread = columns.std(axis=1) if images else np.ones(width)
    spread = np.where(spread > _CONSTANT * np.maximum(1, np.abs(mean)), spread, 1.0)
    scaled = np.zeros((width + 1, images + 2))
    scaled[0], scaled[1:, :images] = 1, (columns - mean[:, None]) / spread[:, None]
    target = np.concatenate([y, [True, False]]).astype(np.float64)
    ridge = _RIDGE * (images + 2) * np.diag(np.append(0.0, np.ones(width)))
    weights = np.zeros(width + 1)
    for _ in range(100):
        share = logistic(weights @ scaled)
        gradient = scaled @ (share - target) + ridge @ weights
        curvature = (scaled * (share * (1 - share))) @ scaled.T + ridge
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    slopes: Floats = weights[1:] / spread
    return np.append(weights[0] - slopes @ mean, slopes)
