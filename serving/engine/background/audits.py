"""Audits: a share of answers is compared with full depth, and promises are judged by it.

Few audits are under way at a time, which depends on earlier requests only (`draws`). The result of
an audit is agreement, disagreement, or unknown. A result that is unknown because of load (a dropped
copy, a deadline) can depend on the image, so it is not left out: each bound takes it as its worst
case (`serving.audit.sequence`). While audits try safer points for a broken promise, drawn requests
evaluate every exit on their way. All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from serving.audit.ledger import Ledger
from serving.audit.metrics import AuditCounters, Unknown
from serving.audit.sequence import Result
from serving.audit.standing import FULL_DEPTH, Position
from serving.audit.state_file import StateFile
from serving.engine.background.copies import Copies, End
from serving.engine.background.draws import UNKNOWN, Draws, Image, class_of, unknown_of
from serving.engine.background.replay import result_at
from serving.engine.batch import How
from serving.engine.policy import Policy
from serving.engine.request import Request

SAVE_SECONDS = 5.0  # from a change to the file
CACHED_POLICIES = 1024
log = logging.getLogger(__name__)


class Audits:
    """Draws, runs and counts audits, and replaces the policies of broken promises.

    Args:
        share: Probability that an answer is audited, above 0.
        stage_flops: Flops of each stage at full depth, which evaluates no other exit.
        ledger: Positions and sequences of all promises.
        thresholds: For each promise, the thresholds of its ladder.
        counters: Counters of audits.
        file: File in which the ledger survives a restart.
    """

    def __init__(
        self,
        share: float,
        stage_flops: Sequence[int],
        ledger: Ledger,
        thresholds: Mapping[str, Sequence[tuple[float, ...]]],
        counters: AuditCounters,
        file: StateFile | None = None,
    ) -> None:
        self._draws = Draws(share)
        self._stage_flops = stage_flops
        self._ledger = ledger
        self._thresholds = thresholds
        self._counters = counters
        self._file = file
        self._full = Policy(FULL_DEPTH, FULL_DEPTH, (2.0,) * (len(stage_flops) - 1) + (0.0,))
        self._replaced = lru_cache(CACHED_POLICIES)(self._replace)
        self._explained = lru_cache(CACHED_POLICIES)(partial(replace, explain=True))
        self._timer: asyncio.TimerHandle | None = None
        self._copies: Copies | None = None

    def use(self, copies: Copies) -> None:
        """Set the copies that audits run as, once."""
        self._copies = copies

    def policy_for(self, policy: Policy) -> Policy:
        """Return the policy that answers: a safer one if its promise was found broken."""
        if policy.promise is None:
            return policy
        position = self._ledger.position(policy.name)
        return policy if position == (0, False) else self._replaced(policy, position)

    def draw(self, requests: Sequence[Request], _: Sequence[Image] = (), /) -> None:
        """Draw new requests for an audit."""
        assert self._copies is not None
        for request in requests:
            if self._draws.draw(self._copies.most):
                request.audited = True
                if self._tries(request.policy):
                    request.policy = self._explained(request.policy)

    def give_up(self, request: Request, reason: Unknown, /) -> None:
        """End the audit of a request that ended early, if there is one."""
        if request.audited:
            request.audited = False
            self._end(request, "unknown", reason)

    def leave(self, requests: Sequence[Request], how: How, /) -> list[Request]:
        """Audit drawn requests that left. Return those that need their slots no more."""
        drawn = (request for request in requests if request.audited)
        return [request for request in drawn if not self._start(request, how)]

    async def close(self) -> None:
        """Save the ledger."""
        if self._timer is not None:
            self._timer.cancel()
        if self._file is not None:
            await asyncio.to_thread(self._file.save, self._ledger)

    def _start(self, request: Request, how: How) -> bool:
        """Start the audit of a request. Return whether its copy took over its slot."""
        assert self._copies is not None
        if (reason := unknown_of(request, how)) is not None:
            self._end(request, "unknown", reason)
        elif request.stage == len(self._stage_flops):
            self._compare(request, request)
        elif self._copies.start(request, self._full, lambda *end: self._finish(request, *end)):
            return True
        else:
            self._end(request, "unknown", "stopped")
        return False

    def _finish(self, request: Request, copy: Request, end: End) -> None:
        flops = sum(self._stage_flops[request.stage : copy.stage])
        self._counters.spend(request.policy.name, flops)
        if end != "finished":
            self._end(request, "unknown", UNKNOWN[end])
        else:
            self._compare(request, copy)

    def _compare(self, request: Request, full: Request) -> None:
        """End the audit of a request with a comparison with full depth."""
        label, number = request.policy.name, class_of(full)
        others: tuple[Result, ...] = ()
        if self._tries(request.policy):
            points = self._thresholds[label]
            others = tuple(result_at(point, request.opinions, number) for point in points)
        result: Result = "agreement" if class_of(request) == number else "disagreement"
        self._end(request, result, others=others)

    def _tries(self, policy: Policy) -> bool:
        """Return whether audits of this policy try other points for its promise."""
        promise = policy.promise
        return promise is not None and promise.broken and self._ledger.tries(policy.name)

    def _end(
        self,
        request: Request,
        result: Result,
        reason: Unknown = "failed",
        others: Sequence[Result] = (),
    ) -> None:
        """Count a result, and the reason why it is unknown. An error is logged, and not raised."""
        self._draws.end()
        try:
            self._count(request, result, reason, others)
        except Exception:
            log.exception("an audit was not counted")

    def _count(
        self, request: Request, result: Result, reason: Unknown, others: Sequence[Result]
    ) -> None:
        policy = request.policy
        if result == "unknown":
            self._counters.drop(policy.name, reason)
        else:
            self._counters.result(policy.name, request.stage, agrees=result == "agreement")
        if policy.promise is None:
            return
        point = policy.promise.answered_by or str(policy.promise.level)
        moved = self._ledger.add(policy.name, point, result, others)
        if moved is not None:
            self._log(policy, point, moved)
        self._save(0.0 if moved else SAVE_SECONDS)

    def _log(self, policy: Policy, point: str, moved: Position) -> None:
        ladder = self._ledger.promises[policy.name].ladder
        if ladder.index(point) > moved.point:
            log.warning(
                "%s: audits show with confidence that %s differs from full depth no more often "
                "than is promised; from now on it answers instead of %s",
                policy.name,
                ladder[moved.point],
                point,
            )
            return
        tries = self._ledger.tries(policy.name)
        log.error(
            "%s is broken: audits of %s show with confidence that more answers differ from full "
            "depth than is promised; from now on %s answers%s",
            policy.name,
            point,
            f"the same point {point}" if moved.broken else ladder[moved.point],
            ", until audits support a safer point" if tries else "",
        )

    def _save(self, seconds: float) -> None:
        """Save the ledger after some seconds, on a thread, if a file is set."""
        if self._file is None or (self._timer is not None and seconds):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._save_now, self._file)

    def _save_now(self, file: StateFile) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, file.save, self._ledger)

    def _replace(self, policy: Policy, position: Position) -> Policy:
        assert policy.promise is not None
        point = self._ledger.promises[policy.name].ladder[position.point]
        return replace(
            policy,
            thresholds=self._thresholds[policy.name][position.point],
            promise=policy.promise._replace(
                broken=True, answered_by=point if position.point else None
            ),
        )
