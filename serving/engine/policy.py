"""Budgets and bounds of a request, resolved to a policy that decides where it leaves.

    budget=low            a named operating point of the manifest
    budget=120M, 40%      mean flops: the most accurate point of the curve within them
    min_confidence=0.9    one threshold at every exit
    deadline_ms=50        a hard bound in time, together with any of the above

A policy depends on the query and the manifest only. One that compares no thresholds is a subclass
of `Policy` with its own `decide`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offramp.bundle.manifest import Manifest, OperatingPoint
from serving.errors import BudgetTooLowError, ParameterError, UnknownBudgetError

if TYPE_CHECKING:
    from serving.engine.request import Opinion

NUMERIC = "numeric"
MIN_CONFIDENCE = "min_confidence"
DEFAULT_BUDGET = "medium"
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kKmMgG%]?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rule by which a request leaves: at the first exit that reaches its threshold.

    Attributes:
        name: Label in the metrics: a named budget, `numeric` or `min_confidence`.
        asked: Budget or bound in the client's words, which the answer repeats.
        thresholds: One for each exit. The last is 0.
        deadline: Most seconds from arrival to the answer. `None`: no bound.
        explain: Every exit on the way gives an opinion.
        reject: For each exit, the score below which an answer is rejected. `None`: not asked for.
        asks: For each exit, whether the policy evaluates it. A stage that no policy of a batch
            evaluates runs without its head.
    """

    name: str
    asked: str
    thresholds: tuple[float, ...]
    deadline: float | None = None
    explain: bool = False
    reject: tuple[float, ...] | None = None
    asks: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        *early, _ = self.thresholds
        everywhere = self.explain or self.deadline is not None
        asks = (*(everywhere or threshold <= 1 for threshold in early), True)
        object.__setattr__(self, "asks", asks)

    def decide(self, opinion: Opinion, earlier: Sequence[Opinion | None]) -> bool:
        """Return whether to leave. At the last exit every request leaves.

        NaN leaves too, to be reported as an error.

        Args:
            opinion: Opinion of the exit that is reached.
            earlier: Opinions of the exits before, `None` where the policy does not evaluate them.
        """
        stage = len(earlier)
        last = stage == len(self.thresholds) - 1
        return last or not opinion.confidence < self.thresholds[stage]

    def seconds_left(self, age: float) -> float | None:
        """Return the seconds from this age of a request to its deadline. `None`: no deadline."""
        return None if self.deadline is None else self.deadline - age


def default_budget(manifest: Manifest) -> str:
    """Return the budget of a request without one: `medium`, or else the last named."""
    names = list(manifest.budgets)
    return DEFAULT_BUDGET if DEFAULT_BUDGET in names else names[-1]


def resolve(
    manifest: Manifest,
    budget: str | None = None,
    min_confidence: float | None = None,
    deadline_ms: float | None = None,
    *,
    explain: bool = False,
    reject: bool = False,
) -> Policy:
    """Return the policy of a request.

    Args:
        manifest: Manifest of the bundle.
        budget: A name, a number of flops (`120M`, `1.2G`, `400k`, `9000`), or a percentage of
            full flops (`40%`).
        min_confidence: A threshold in [0, 1], instead of a budget.
        deadline_ms: Milliseconds, above 0.
        explain: Evaluate every exit on the way.
        reject: Decide whether to reject the answer, by the bundle's thresholds of a score.

    Raises:
        ParameterError: Both a budget and a confidence were given, a number is out of range, or
            the bundle has no such thresholds.
        UnknownBudgetError: The budget is neither a name nor a number.
        BudgetTooLowError: No operating point is that cheap.
    """
    if deadline_ms is not None and not (math.isfinite(deadline_ms) and deadline_ms > 0):
        raise ParameterError(f"deadline_ms: must be above 0 milliseconds, got {deadline_ms:g}")
    deadline = None if deadline_ms is None else deadline_ms / 1e3
    scores = _reject_thresholds(manifest) if reject else None
    if min_confidence is None:
        asked = default_budget(manifest) if budget is None else budget
        name, point = _operating_point(manifest, asked)
        return Policy(name, asked, point.thresholds, deadline, explain, scores)
    if budget is not None:
        raise ParameterError("budget and min_confidence exclude each other: leave one out")
    if not 0 <= min_confidence <= 1:
        raise ParameterError(f"min_confidence: must be from 0 to 1, got {min_confidence:g}")
    thresholds = (min_confidence,) * (manifest.exits - 1) + (0.0,)
    asked = f"{MIN_CONFIDENCE}={min_confidence:g}"
    return Policy(MIN_CONFIDENCE, asked, thresholds, deadline, explain, scores)


def _reject_thresholds(manifest: Manifest) -> tuple[float, ...]:
    if manifest.reject is None:
        raise ParameterError(
            "reject: this bundle rejects nothing; leave it out, or serve a bundle that was made by "
            "offramp export or recalibrate with --reject"
        )
    return manifest.reject.thresholds


def _operating_point(manifest: Manifest, asked: str) -> tuple[str, OperatingPoint]:
    if asked in manifest.budgets:
        return asked, manifest.budgets[asked]
    number = _NUMBER.fullmatch(asked)
    if number is None:
        names = ", ".join(manifest.budgets)
        raise UnknownBudgetError(
            f"budget: {asked[:64]!r} is not one of {names}, nor flops (120M), nor a share (40%)"
        )
    return NUMERIC, _best_within(manifest, _flops(manifest, *number.groups()))


def _flops(manifest: Manifest, digits: str, unit: str) -> float:
    if unit == "%":
        return float(digits) / 100 * manifest.full_flops
    return float(digits) * UNITS[unit.lower()]


def _best_within(manifest: Manifest, flops: float) -> OperatingPoint:
    """Return the most accurate point of the curve with mean flops of at most `flops`."""
    affordable = [point for point in manifest.curve if point.mean_flops.value <= flops]
    if not affordable:
        cheapest = math.ceil(manifest.curve[0].mean_flops.value)
        percent = 100 * cheapest / manifest.full_flops
        raise BudgetTooLowError(
            f"budget: {flops:.0f} flops are below the cheapest operating point; "
            f"ask for at least {cheapest} flops (about {percent:.1f}% of full depth)"
        )
    return max(affordable, key=lambda point: point.accuracy.value)
