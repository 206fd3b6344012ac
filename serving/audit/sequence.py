"""A confidence sequence for the probability that an answer differs from full depth.

Pure: it is told results, and holds no clock, thread or file. The bounds hold at all times at once,
so they can be read after each audit. Source: Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting" (JRSS B, 2023): the capital of bets against a mean m is a martingale
if m is true, and passes 1 / alpha with probability alpha at most (Ville's inequality). The bound is
the m at which the capital is 1 / alpha. The bets are a fixed grid, and their capitals are averaged
(`diversified_betting_mart` of the authors' package confseq). A result is 0 or 1, so the capital
depends on the counts only. Order does not matter, and several workers can add to the same counts.

A bet of the lower bound is a likelihood ratio, of a probability with so many times the odds of m
against m (Robbins, "Statistical methods related to the law of the iterated logarithm", 1970). It
grows fastest if that probability is the true one (Kelly). The odds lie around those of a promise
that is broken by a multiple, whatever the promise is.

The lower bound has one more average, over the audit at which the bets begin: 0, `BLOCK`, 2 `BLOCK`
and so on, with weights that add up to 1. Without it, a long good past would hide a change. The
weights fall slowly, as the power -3/2, because most changes come late. It is a bound on the largest
probability there has been. If the probability never changed, that is the probability itself.

A result can be unknown, if an audit was drawn and not finished. The lower bound takes it as an
agreement, the upper bound as a disagreement. Both are valid whatever the unknown results are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BLOCK = 500  # audits between two beginnings of bets
MARKS = 31  # of the last beginnings, which are kept beside the first
PRECISION = 40  # halvings of an interval
Result = Literal["agreement", "disagreement", "unknown"]
# Bets against "at most m": how many times as large the odds are. 1.03 to 65, mostly 1.5 to 9.
ODDS = 1 + 2.0 ** np.arange(-5, 7)
SHARES = np.where((ODDS > 1.25) & (ODDS < 16), 0.75 / 5, 0.25 / 7)  # of the capital, at first
# Bets against "at least m": fractions of the capital that one result can lose.
FALLING = (np.arange(16) + 0.5) / 16


@dataclass(frozen=True)
class ConfidenceSequence:
    """The counts of an audit, and their bounds.

    Attributes:
        trials: Audits that were drawn.
        losses: Audits with another class than full depth.
        unknown: Audits without a result.
        marks: Losses at the last `MARKS` multiples of `BLOCK` trials, the oldest first.
    """

    trials: int = 0
    losses: int = 0
    unknown: int = 0
    marks: tuple[int, ...] = ()

    def add(self, result: Result) -> ConfidenceSequence:
        """Return the sequence with one more result."""
        trials, losses = self.trials + 1, self.losses + (result == "disagreement")
        unknown, marks = self.unknown + (result == "unknown"), self.marks
        if trials % BLOCK == 0:
            marks = (*marks, losses)[-MARKS:]
        return ConfidenceSequence(trials, losses, unknown, marks)

    @property
    def known(self) -> int:
        """Number of audits with a result."""
        return self.trials - self.unknown

    @property
    def share(self) -> float:
        """Share of disagreements among the known results, NaN without a result."""
        return self.losses / self.known if self.known else math.nan

    def evidence(self, mean: float) -> float:
        """Return the logarithm of the capital of bets against a probability of at most `mean`.

        If it is at least log(1 / alpha), the probability was above `mean` at some time, with
        confidence 1 - alpha. It rises at a disagreement only.

        Args:
            mean: In (0, 1).
        """
        weights, trials, losses = self._beginnings
        price = np.log1p((ODDS - 1) * mean)  # of an audit. A loss multiplies the capital by ODDS.
        bets = losses[:, None] * np.log(ODDS) - trials[:, None] * price
        return _log_sum(np.log(weights)[:, None] + np.log(SHARES) + bets)

    def lower(self, alpha: float) -> float:
        """Return the lower bound, valid with probability 1 - alpha at all times at once."""
        if not self.losses:
            return 0.0
        return _border(lambda mean: not self.exceeds(mean, alpha))[0]

    def upper(self, alpha: float) -> float:
        """Return the upper bound, valid with probability 1 - alpha at all times at once."""
        return _border(lambda mean: self.supports(mean, alpha))[1]

    def exceeds(self, mean: float, alpha: float) -> bool:
        """Return whether the lower bound is at least `mean`, a number in (0, 1)."""
        return self.evidence(mean) >= -math.log(alpha)

    def supports(self, mean: float, alpha: float) -> bool:
        """Return whether the upper bound is at most `mean`, a number in (0, 1)."""
        return self._evidence_below(mean) >= -math.log(alpha)

    def _evidence_below(self, mean: float) -> float:
        """Return the logarithm of the capital of bets against a probability of at least `mean`."""
        losses = self.losses + self.unknown
        gain, loss = np.log1p(FALLING * mean / (1 - mean)), np.log1p(-FALLING)
        bets = (self.trials - losses) * gain + losses * loss
        return _log_sum(bets - math.log(len(FALLING)))

    @cached_property
    def _beginnings(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return weight, trials and losses since each beginning of bets.

        The last stands for all beginnings to come, whose capital is still 1. Those that are not
        kept any more are lost capital.
        """
        last = self.trials // BLOCK
        numbers = np.array([0, *range(last + 1 - len(self.marks), last + 1)], dtype=np.float64)
        losses_then = np.array([0, *self.marks], dtype=np.float64)
        weights = weight_of(numbers)
        weights = np.append(weights, (last + 2) ** -0.5)
        trials = np.append(self.trials - BLOCK * numbers, 0.0)
        return weights, trials, np.append(self.losses - losses_then, 0.0)


def weight_of(beginning: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the capital that is bet from a beginning on, numbered from 0."""
    return (beginning + 1) ** -0.5 - (beginning + 2) ** -0.5


def audits_needed(mean: float, alpha: float) -> int:
    """Return the fewest audits, all agreeing, with an upper bound of at most `mean`."""
    few, enough = 0, 1
    while ConfidenceSequence(enough).upper(alpha) > mean:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        if ConfidenceSequence(middle).upper(alpha) > mean:
            few = middle
        else:
            enough = middle
    return enough


def _log_sum(terms: NDArray[np.float64]) -> float:
    """Return log(sum(exp(terms)))."""
    largest = float(terms.max())
    return largest + math.log(float(np.exp(terms - largest).sum()))


def _border(passed: Callable[[float], bool]) -> tuple[float, float]:
    """Return the last point of (0, 1) that has not passed, and the first that has."""
    low, high = 0.0, 1.0
    for _ in range(PRECISION):
        middle = (low + high) / 2
        low, high = (low, middle) if passed(middle) else (middle, high)
    return low, high
