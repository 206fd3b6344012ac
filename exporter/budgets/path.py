"""The path of operating points: from full depth to leaving at the first exit.

One number indexes it, the risk. A request leaves at the first exit where the estimated loss is at
most the risk times the cost of going on, relative to the exit where that is largest. The risk is
therefore a price of a flop in losses, or of a millisecond (`Scored.prices`). At risk 0 every
request runs to full depth, at risk 1 every request leaves at the first exit.

The loss of an exit is the probability that full depth is right and the exit is not, less that of
the opposite. If an answer counts as right where it agrees with full depth, it is the probability of
a disagreement. It is estimated from the exit's confidence by a logistic regression on the logit and
its square, and then made to fall with the confidence. A path has three fitted numbers for each
exit, and is usable with few images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.budgets.estimates import rising
from exporter.budgets.logistic import fit_logistic, logistic, logit
from training.evaluation.evaluate import Floats, Scored
from training.evaluation.thresholds import NEVER

POINTS = 256  # between both ends
LEAST_RISK = 1e-4
TILT = (
    1e-5  # by which an estimated loss falls at least over all confidences, so that none are equal
)
GRID = 1024  # confidences of an exit at which its loss is estimated
# Share of the requests that go on at an exit, among those that nearly left at the exit before. It
# was measured on the optimum of all thresholds at one price. Between 0.2 and 0.5 nothing changes.
GO_ON = 1 / 3

RISKS: Floats = np.concatenate([[0.0], np.geomspace(LEAST_RISK, 1.0, POINTS)])


@dataclass(frozen=True, slots=True)
class _Exit:
    """The estimated loss of an exit [grid], falling, at ascending logits of its confidence."""

    logits: Floats
    losses: Floats

    def thresholds(self, largest: Floats) -> Floats:
        """Return the confidences at which the loss is at most each of these losses [points]."""
        found = logistic(np.interp(-largest, -self.losses, self.logits))
        found[largest < self.losses[-1]] = NEVER
        found[largest >= self.losses[0]] = 0.0
        return found


class Path:
    """Operating points from the safest to the cheapest.

    Args:
        exits: All exits but the last.
        costs: Cost of going on at each of them, relative to the largest.
    """

    def __init__(self, exits: list[_Exit], costs: Floats) -> None:
        self._exits, self._costs = exits, costs

    def thresholds(self, risks: Floats = RISKS) -> Floats:
        """Return the thresholds at these risks in [0, 1], float64 [points, exits].

        At each exit they never rise with the risk. The last is 0. The safest point is full depth at
        risk 0, the cheapest is the first exit at risk 1.
        """
        found = np.zeros((len(risks), len(self._exits) + 1))
        for k, each in enumerate(self._exits):
            found[:, k] = each.thresholds(risks * self._costs[k])
        found[risks <= 0, :-1] = NEVER
        found[risks >= 1, 0] = 0.0
        return found


def solve_path(scored: Scored) -> Path:
    """Estimate the loss of each exit, and return the path.

    Args:
        scored: Images, with `right` where the answer of an exit is right, or agrees with full
            depth.
    """
    early = range(len(scored.flops) - 1)
    costs = _costs_of_going_on(scored.flops if scored.prices is None else scored.prices)
    largest = costs.max(initial=0.0)
    return Path([_exit(scored, k) for k in early], costs / largest if largest else costs)


def _costs_of_going_on(to_exit: Floats) -> Floats:
    """Return the cost of a request that nearly left at an exit and goes on, [exits - 1]."""
    costs = np.diff(to_exit)
    for k in range(len(costs) - 2, -1, -1):
        costs[k] += GO_ON * costs[k + 1]
    return costs


def _exit(scored: Scored, k: int) -> _Exit:
    if not scored.images:  # nothing is known of it: it is closed up to risk 1
        return _Exit(np.zeros(1), np.ones(1))
    places = np.linspace(0, 1, min(GRID, scored.images))
    grid = np.quantile(logit(scored.confidence[k]), places)
    gain = _right(scored, k, k, grid) - _right(scored, k, -1, grid)
    return _Exit(grid, TILT * (1 - places) - rising(gain))


def _right(scored: Scored, k: int, other: int, grid: Floats) -> Floats:
    """Return the probability that an exit is right, at logits [grid] of exit k's confidence."""
    right = scored.right[other]
    if right.all() and other == -1:  # it agrees with itself, which is no estimate
        return np.ones(len(grid))
    x = logit(scored.confidence[k])
    weights = fit_logistic(np.stack([x, x * x]), right)
    return logistic(weights @ np.stack([np.ones(len(grid)), grid, grid * grid]))
