"""Budgets and bounds of a request, resolved to a policy that decides where it leaves.

    budget=low            a named operating point of the manifest
    budget=120M, 40%      mean flops: the most accurate point of the curve within them
    min_confidence=0.9    one threshold at every exit
    promise=99%           the cheapest point that is certified to agree with full depth so often
    deadline_ms=50        a hard bound in time, together with any of the above

A policy depends on the query and the manifest only. One that compares no thresholds is a subclass
of `Policy` with its own `decide`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from offramp.bundle.manifest import Manifest, OperatingPoint
from offramp.bundle.promises import Level, Promise, parse_level
from serving.errors import (
    BudgetTooLowError,
    ParameterError,
    UnknownBudgetError,
    UnknownPromiseError,
)

if TYPE_CHECKING:
    from serving.engine.request import Opinion

NUMERIC = "numeric"
MIN_CONFIDENCE = "min_confidence"
PROMISE = "promise"
DEFAULT_BUDGET = "medium"
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kKmMgG%]?)", re.ASCII)


class Promised(NamedTuple):
    """The certified promise of an operating point: at most `epsilon` losses, at 1 - `delta`.

    Attributes:
        broken: Audits found that it does not hold at its own point.
        answered_by: Safer point that answers instead, another promise or `full`.
    """

    level: Level
    delta: float
    broken: bool = False
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The rule by which a request leaves: at the first exit that reaches its threshold.

    Attributes:
        name: Label in the metrics: a named budget, `numeric`, `min_confidence`, or a promise's.
        asked: Budget or bound in the client's words, which the answer repeats.
        thresholds: One for each exit. The last is 0.
        deadline: Most seconds from arrival to the answer. `None`: no bound.
        explain: Every exit on the way gives an opinion.
        reject: For each exit, the score below which an answer is rejected. `None`: not asked for.
        promise: The promise that these thresholds keep. `None`: not asked for.
        plain: Answers have no further fields: nothing to explain, to reject or to promise.
        asks: For each exit, whether the policy evaluates it. A stage that no policy of a batch
            evaluates runs without its head.
    """

    name: str
    asked: str
    thresholds: tuple[float, ...]
    deadline: float | None = None
    explain: bool = False
    reject: tuple[float, ...] | None = None
    promise: Promised | None = None
    plain: bool = field(init=False)
    asks: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        *early, _ = self.thresholds
        everywhere = self.explain or self.deadline is not None
        asks = (*(everywhere or threshold <= 1 for threshold in early), True)
        object.__setattr__(self, "asks", asks)
        plain = not self.explain and self.reject is None and self.promise is None
        object.__setattr__(self, "plain", plain)

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


def budget_names(manifest: Manifest) -> list[str]:
    """Return the names that a budget can have: of budgets, and of promises."""
    offered = manifest.promises.offered if manifest.promises else ()
    return [*manifest.budgets, *(each.name for each in offered if each.name is not None)]


def resolve(
    manifest: Manifest,
    budget: str | None = None,
    min_confidence: float | None = None,
    deadline_ms: float | None = None,
    *,
    explain: bool = False,
    reject: bool = False,
    promise: str | None = None,
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
        promise: A share of answers that agree with full depth (`99%`), or a share of harm
            (`harm:1%`). A budget bounds the mean flops of its operating point.

    Raises:
        ParameterError: A confidence was given with a budget or a promise, a number is out of
            range, or the bundle has no such thresholds.
        UnknownBudgetError: The budget is neither a name nor a number.
        UnknownPromiseError: No certified promise of the bundle holds this one.
        BudgetTooLowError: No operating point is that cheap, or that of the promise is not.
    """
    if deadline_ms is not None and not (math.isfinite(deadline_ms) and deadline_ms > 0):
        raise ParameterError(f"deadline_ms: must be above 0 milliseconds, got {deadline_ms:g}")
    deadline = None if deadline_ms is None else deadline_ms / 1e3
    scores = _reject_thresholds(manifest) if reject else None
    if min_confidence is None:
        asked = default_budget(manifest) if budget is None else budget
        if promise is None:
            name, point = _operating_point(manifest, asked)
        else:
            name, point = _promise(manifest, promise, budget)
            asked = f"{PROMISE}={promise}"
        promised = _promised(manifest, point)
        return Policy(name, asked, point.thresholds, deadline, explain, scores, promised)
    if budget is not None or promise is not None:
        other = "budget" if promise is None else PROMISE
        raise ParameterError(f"{other} and min_confidence exclude each other: leave one out")
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


def _operating_point(manifest: Manifest, asked: str) -> tuple[str, OperatingPoint | Promise]:
    """Return the label and the operating point of a budget."""
    if asked in manifest.budgets:
        return asked, manifest.budgets[asked]
    named = manifest.promises and manifest.promises.named(asked)
    if named:
        return named.label, named
    number = _NUMBER.fullmatch(asked)
    if number is None:
        names = ", ".join(budget_names(manifest))
        raise UnknownBudgetError(
            f"budget: {asked[:64]!r} is not one of {names}, nor flops (120M), nor a share (40%)"
        )
    return NUMERIC, _best_within(manifest, _flops(manifest, *number.groups()))


def _promise(manifest: Manifest, asked: str, budget: str | None) -> tuple[str, Promise]:
    """Return the label and the cheapest point that holds a promise, within a budget if given."""
    promise = _holding(manifest, asked)
    if budget is None:
        return promise.label, promise
    number = _NUMBER.fullmatch(budget) if budget not in budget_names(manifest) else None
    most = (
        _flops(manifest, *number.groups())
        if number
        else _operating_point(manifest, budget)[1].mean_flops.value
    )
    flops = promise.mean_flops.value
    if flops > most:
        raise BudgetTooLowError(
            f"budget: promise={asked} takes {math.ceil(flops)} flops in the mean (about "
            f"{100 * flops / manifest.full_flops:.1f}% of full depth), and {budget} allows "
            f"{most:.0f}; allow as many, or leave one of the two out"
        )
    return promise.label, promise


def _holding(manifest: Manifest, asked: str) -> Promise:
    record = manifest.promises
    if record is None:
        raise UnknownPromiseError(
            "promise: this bundle promises nothing; leave it out, or certify the bundle with "
            "offramp certify"
        )
    offered = ", ".join(str(each.level) for each in record.offered)
    try:
        level = parse_level(asked)
    except ValueError as error:
        raise UnknownPromiseError(f"promise: {error}; this bundle offers {offered}") from error
    promise = record.cheapest(level)
    if promise is None:
        raise UnknownPromiseError(
            f"promise: {level} is not certified for this bundle, which offers {offered}"
        )
    return promise


def _promised(manifest: Manifest, point: OperatingPoint | Promise) -> Promised | None:
    if not isinstance(point, Promise):
        return None
    assert manifest.promises is not None
    return Promised(point.level, manifest.promises.delta)


def _flops(manifest: Manifest, digits: str, unit: str) -> float:
    if unit == "%":
        return float(digits) / 100 * manifest.full_flops
    return float(digits) * UNITS[unit.lower()]


def _best_within(manifest: Manifest, flops: float) -> OperatingPoint:
    """Return the most accurate point of the curve with mean flops of at most `flops`.

    Of points that are equally accurate it is the dearest, which agrees more often with full depth.
    """
    affordable = [point for point in manifest.curve if point.mean_flops.value <= flops]
    if not affordable:
        cheapest = math.ceil(manifest.curve[0].mean_flops.value)
        percent = 100 * cheapest / manifest.full_flops
        raise BudgetTooLowError(
            f"budget: {flops:.0f} flops are below the cheapest operating point; "
            f"ask for at least {cheapest} flops (about {percent:.1f}% of full depth)"
        )
    return max(affordable, key=lambda point: (point.accuracy.value, point.mean_flops.value))
