"""The path of operating points to certify: from full depth to leaving at the first exit.

One number indexes it: the risk, the largest estimated probability that full depth gives another
class. A request leaves at the first exit where the estimate is at most the risk. The estimate of an
exit is a logistic function of the logit of its confidence, fitted on images that are used for
nothing else, so that a path has two fitted numbers for each exit and is usable with few images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import Floats, Scored
from training.evaluation.thresholds import NEVER

POINTS = 256  # between both ends
LEAST_RISK = 1e-4
_SMALLEST = 1e-7  # distance of a confidence from 0 and 1 in a logit, as in a float32
_RIDGE = 1e-3  # of the slope, in units of the images' number


@dataclass(frozen=True, slots=True)
class RiskPath:
    """Operating points from the safest to the cheapest.

    Attributes:
        risks: Largest estimated probability of a disagreement, ascending, [points].
        thresholds: Thresholds of each point, float64 [points, exits]. At each exit they never rise
            along the path.
    """

    risks: tuple[float, ...]
    thresholds: Floats


def solve_path(scored: Scored) -> RiskPath:
    """Fit the estimate of each exit and return the path.

    Args:
        scored: Images, with `right` where the answer of an exit is that of full depth.
    """
    risks = np.concatenate([[0.0], np.geomspace(LEAST_RISK, 1.0, POINTS)])
    thresholds = np.zeros((len(risks), len(scored.flops)))
    for k in range(len(scored.flops) - 1):
        thresholds[:, k] = _thresholds(scored.confidence[k], scored.right[k], risks)
    return RiskPath(tuple(risks.tolist()), thresholds)


def _thresholds(
    confidence: NDArray[np.float32], agrees: NDArray[np.bool_], risks: Floats
) -> Floats:
    """Return the confidence at which the estimate equals each risk, `NEVER` above the highest seen.

    If a higher confidence does not mean more agreement, no image leaves at this exit until the
    risk is 1.
    """
    offset, slope = fit_logistic(_logit(confidence), agrees)
    found = np.full(len(risks), NEVER)
    found[-1] = 0.0
    if slope > 0:
        inner = risks[1:-1]
        found[1:-1] = _logistic((np.log(1 / inner - 1) - offset) / slope)
        found[found > float(confidence.max(initial=0))] = NEVER
    return found


def _logit(confidence: NDArray[np.float32]) -> Floats:
    inside = np.clip(confidence.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    logit: Floats = np.log(inside / (1 - inside))
    return logit


def _logistic(x: Floats) -> Floats:
    inside = np.clip(x, -500, 500)  # beyond, exp overflows
    share: Floats = 1 / (1 + np.exp(-inside))
    return share


def fit_logistic(x: Floats, y: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit P(y) = 1 / (1 + exp(-offset - slope x)) by maximum likelihood, with a small ridge.

    Newton's method on a standardized x. Two images are added, one with y and one without, so that
    the offset is finite where all y are alike (Agresti and Coull, 1998, do so for a share).

    Args:
        x: Values, float64 [N].
        y: Outcomes, bool [N].

    Returns:
        The offset and the slope.
    """
    mean, spread = (float(x.mean()), float(x.std()) or 1.0) if len(x) else (0.0, 1.0)
    scaled = np.concatenate([(x - mean) / spread, [0.0, 0.0]])
    columns = np.stack([np.ones_like(scaled), scaled])
    target = np.concatenate([y, [True, False]]).astype(np.float64)
    ridge = np.diag([0.0, _RIDGE * len(scaled)])
    weights = np.zeros(2)
    for _ in range(100):
        share = _logistic(weights @ columns)
        gradient = columns @ (share - target) + ridge @ weights
        curvature = (columns * (share * (1 - share))) @ columns.T + ridge
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    slope = float(weights[1]) / spread
    return float(weights[0]) - slope * mean, slope
