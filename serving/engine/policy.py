"""Budgets and bounds of a request, resolved to a policy that decides where it leaves.

    budget=low            a named operating point of the manifest
    budget=120M, 40%      mean flops: the most accurate point of the curve within them
    budget=8ms            mean compute time of an answer on this machine, without waiting
    min_confidence=0.9    one threshold at every exit
    promise=99%           the cheapest point that is certified to agree with full depth so often
    deadline_ms=50        a hard bound in time, together with any of the above

A policy depends on the query and the manifest only, and on measured times if a budget is in
milliseconds (`budgets`). One that compares no thresholds is a subclass
of `Policy` with its own `decide`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import Level, Promise
from serving.engine.budgets.milliseconds import Milliseconds, Timed
from serving.engine.budgets.points import PointFinder, default_budget
from serving.engine.opinion import Opinion
from serving.errors import ParameterError

MIN_CONFIDENCE = "min_confidence"
PROMISE = "promise"


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
        timed: The meaning of a budget in milliseconds. `None`: another budget.
        bound: Budget in the client's words beside a promise. `None`: there are not both.
        plain: Answers have no further fields: nothing to explain, to reject, to promise or to time.
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
    timed: Timed | None = None
    bound: str | None = None
    plain: bool = field(init=False)
    asks: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        *early, _ = self.thresholds
        everywhere = self.explain or self.deadline is not None
        asks = (*(everywhere or threshold <= 1 for threshold in early), True)
        object.__setattr__(self, "asks", asks)
        further = (self.reject, self.promise, self.timed)
        plain = not self.explain and all(each is None for each in further)
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


def resolve(
    manifest: Manifest,
    budget: str | None = None,
    min_confidence: float | None = None,
    deadline_ms: float | None = None,
    *,
    explain: bool = False,
    reject: bool = False,
    promise: str | None = None,
    milliseconds: Milliseconds | None = None,
) -> Policy:
    """Return the policy of a request.

    Args:
        manifest: Manifest of the bundle.
        budget: A name, flops (`120M`, `9000`), a percentage of full flops (`40%`), or time (`8ms`).
        min_confidence: A threshold in [0, 1], instead of a budget.
        deadline_ms: Milliseconds, above 0.
        explain: Evaluate every exit on the way.
        reject: Decide whether to reject the answer, by the bundle's thresholds of a score.
        promise: A share of answers that agree with full depth (`99%`), of harm (`harm:1%`), or of
            lost accuracy (`accuracy:1%`). A budget bounds the mean flops or milliseconds of its
            operating point.
        milliseconds: Operating points by the times of this machine. `None`: not measured.

    Raises:
        ParameterError: A confidence was given with a budget or a promise, a number is out of
            range, or the bundle has no such thresholds.
        UnknownBudgetError: The budget is no name and no number, or in milliseconds without times.
        UnknownPromiseError: No certified promise of the bundle holds this one.
        BudgetTooLowError: No operating point is that cheap, or that of the promise is not.
    """
    deadline = None if deadline_ms is None else _deadline(deadline_ms)
    scores = _reject_thresholds(manifest) if reject else None
    if min_confidence is not None:
        policy = _by_confidence(manifest, min_confidence, budget, promise)
    else:
        finder = PointFinder(manifest, milliseconds, every_exit=explain or deadline is not None)
        policy = _by_point(manifest, finder, budget, promise)
    return replace(policy, deadline=deadline, explain=explain, reject=scores)


def _deadline(milliseconds: float) -> float:
    """Return a deadline in seconds."""
    if not (math.isfinite(milliseconds) and milliseconds > 0):
        raise ParameterError(
            f"deadline_ms: must be above 0 and finite, got {milliseconds:g}; leave it out for no "
            "deadline"
        )
    return milliseconds / 1e3


def _by_confidence(
    manifest: Manifest, confidence: float, budget: str | None, promise: str | None
) -> Policy:
    """Return the policy of one threshold at every exit."""
    if budget is not None or promise is not None:
        other = "budget" if promise is None else PROMISE
        raise ParameterError(f"{other} and min_confidence exclude each other: leave one out")
    thresholds = _equal_thresholds(manifest, confidence)
    exactly = repr(float(confidence)).removesuffix(".0")  # `resolve_again` reads it
    return Policy(MIN_CONFIDENCE, f"{MIN_CONFIDENCE}={exactly}", thresholds)


def _by_point(
    manifest: Manifest, finder: PointFinder, budget: str | None, promise: str | None
) -> Policy:
    """Return the policy of the operating point of a budget or a promise."""
    bound = None
    if promise is None:
        asked = default_budget(manifest) if budget is None else budget
        point = finder.of_budget(asked)
    else:
        asked, bound = f"{PROMISE}={promise}", budget
        point = finder.of_promise(promise, budget)
    promised = _promised(manifest, point.promise)
    return Policy(
        point.name, asked, point.thresholds, promise=promised, timed=point.timed, bound=bound
    )


def _equal_thresholds(manifest: Manifest, confidence: float) -> tuple[float, ...]:
    if not 0 <= confidence <= 1:
        raise ParameterError(f"min_confidence: must be from 0 to 1, got {confidence:g}")
    return (confidence,) * (manifest.exits - 1) + (0.0,)


def resolve_again(
    policy: Policy, manifest: Manifest, milliseconds: Milliseconds | None = None
) -> Policy:
    """Return the policy that the words of another policy give for another bundle.

    It has no deadline, and evaluates every exit on the way if the other one does.

    Raises:
        InvalidRequestError: As `resolve` raises.
    """
    kind, _, value = policy.asked.rpartition("=")
    return resolve(
        manifest,
        budget=policy.bound if kind else value,
        min_confidence=float(value) if kind == MIN_CONFIDENCE else None,
        promise=value if kind == PROMISE else None,
        explain=policy.explain or policy.deadline is not None,
        reject=policy.reject is not None,
        milliseconds=milliseconds,
    )


def _reject_thresholds(manifest: Manifest) -> tuple[float, ...]:
    if manifest.reject is None:
        raise ParameterError(
            "reject: this bundle rejects nothing; leave it out, or serve a bundle that was made by "
            "offramp export or recalibrate with --reject"
        )
    return manifest.reject.thresholds


def _promised(manifest: Manifest, promise: Promise | None) -> Promised | None:
    if promise is None:
        return None
    assert manifest.promises is not None
    return Promised(promise.level, manifest.promises.delta)
