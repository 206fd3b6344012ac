"""The rules by which a promise moves on its ladder of operating points.

Pure. The promise's own point answers until its sequence shows that the promise is broken. From then
on full depth answers, which keeps every promise, and audits try the safer points. They evaluate all
exits, which shows what each of these points would have answered. A point answers once its upper
bound is at most epsilon. The safest is tested first, and each cheaper one after the one before it
has passed (a fixed sequence of tests, as in Angelopoulos et al., "Learn then Test", 2021). The
counts of the tests begin at the alarm, because a clean past would hide present losses.

After an alarm, let the images have constant probabilities of a loss. The probability that a point
with more than epsilon ever answers is then at most alpha: the first such point in the order of the
tests has to pass its own test, which is valid at all times at once (`serving.audit.sequence`).
After an alarm at such a point only those safer than it are tried, so alarms are bounded too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from serving.audit.sequence import ConfidenceSequence, Result

FULL_DEPTH = "full"
NOTHING = ConfidenceSequence()
UNKNOWN: Result = "unknown"


@dataclass(frozen=True, slots=True)
class AuditedPromise:
    """A promise, and how it is judged.

    Attributes:
        label: Its label in the metrics.
        epsilon: Largest probability of a loss.
        alpha: Probability that a true promise is found broken.
        ladder: Names of its operating points: its own level, then safer ones, then perhaps `full`.
        judged: More disagreements than epsilon break the promise. If not, audits can support it
            and not break it.
        supported: Fewer disagreements than epsilon support the promise. If not, audits can break it
            and not support it.
    """

    label: str
    epsilon: float
    alpha: float
    ladder: tuple[str, ...]
    judged: bool = True
    supported: bool = True


class Position(NamedTuple):
    """The place of a promise on its ladder, from 0, and whether it was found broken there."""

    point: int
    broken: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """The point that answers a promise, and the audits that decide on it.

    Attributes:
        point: Its place on the ladder, from 0.
        broken: The promise was found broken at this point, and there is no other to move to.
        sequence: Audits since this point answers.
        candidates: Audits since the last alarm, of each cheaper point that is tried: those of the
            ladder directly before `point`, in its order.
    """

    point: int = 0
    broken: bool = False
    sequence: ConfidenceSequence = NOTHING
    candidates: tuple[ConfidenceSequence, ...] = ()

    @property
    def position(self) -> Position:
        """The place on the ladder, and whether the promise was found broken there."""
        return Position(self.point, self.broken)

    def add(
        self, promise: AuditedPromise, result: Result, others: Sequence[Result] = ()
    ) -> Standing:
        """Return the standing after an audit.

        Args:
            promise: The promise.
            result: Result of the point that answered.
            others: Result that each point of the ladder would have had. Empty: unknown.
        """
        sequence = self.sequence.add(result)
        judged = promise.judged and not self.broken
        lost = judged and result == "disagreement"  # evidence rises at a disagreement only
        if lost and sequence.exceeds(promise.epsilon, promise.alpha):
            return found_broken(promise, self.point, sequence)
        first = self.point - len(self.candidates)
        results = others[first : self.point] or (UNKNOWN,) * len(self.candidates)
        pairs = zip(self.candidates, results, strict=True)
        candidates = tuple(candidate.add(each) for candidate, each in pairs)
        return _after_tests(promise, replace(self, sequence=sequence, candidates=candidates))


def found_broken(
    promise: AuditedPromise, point: int, sequence: ConfidenceSequence = NOTHING
) -> Standing:
    """Return the standing after an alarm at a point.

    Args:
        promise: The promise.
        point: Place of the point on the ladder.
        sequence: Audits of this point, which go on if the ladder ends there.
    """
    last = len(promise.ladder) - 1
    if point == last:
        return Standing(point, broken=True, sequence=sequence)
    return Standing(last, candidates=(NOTHING,) * (last - 1 - point))


def _after_tests(promise: AuditedPromise, standing: Standing) -> Standing:
    """Return the standing at the cheapest point that passed its test after all safer ones."""
    bound = promise.epsilon, promise.alpha
    while standing.candidates and standing.candidates[-1].supports(*bound):
        standing = Standing(standing.point - 1, candidates=standing.candidates[:-1])
    return standing
