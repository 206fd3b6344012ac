"""Audits: a share of answers is compared with full depth, and promises are judged by it.

Few audits are under way at a time, which depends on earlier requests only (`draws`). The result of
an audit is agreement, disagreement, or unknown. A result that is unknown because of load (a dropped
copy, a deadline) can depend on the image, so it is not left out: each bound takes it as its worst
case (`serving.audit.sequence`). All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from serving.audit.ledger import FULL_DEPTH, Ledger, Position
from serving.audit.metrics import AuditCounters, Unknown
from serving.audit.sequence import Result
from serving.audit.state_file import StateFile
from serving.engine.background.copies import Copies, End
from serving.engine.background.draws import UNKNOWN, Draws, Image, class_of, unknown_of
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
            self._end(request, "agreement")
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
        elif class_of(request) == class_of(copy):
            self._end(request, "agreement")
        else:
            self._end(request, "disagreement")

    def _end(self, request: Request, result: Result, reason: Unknown = "failed") -> None:
        """Count a result, and the reason why it is unknown. An error is logged, and not raised."""
        self._draws.end()
        try:
            self._count(request, result, reason)
        except Exception:
            log.exception("an audit was not counted")

    def _count(self, request: Request, result: Result, reason: Unknown) -> None:
        policy = request.policy
        if result == "unknown":
            self._counters.drop(policy.name, reason)
        else:
            self._counters.result(policy.name, request.stage, agrees=result == "agreement")
        if policy.promise is None:
            return
        point = policy.promise.answered_by or str(policy.promise.level)
        moved = self._ledger.add(policy.name, point, result)
        if moved is not None:
            self._log(policy, point, moved)
        self._save(0.0 if moved else SAVE_SECONDS)

    def _log(self, policy: Policy, point: str, moved: Position) -> None:
        ladder = self._ledger.promises[policy.name].ladder
        log.error(
            "%s is broken: audits of %s show with confidence that more answers differ from full "
            "depth than is promised; from now on %s answers",
            policy.name,
            point,
            f"the same point {point}" if moved.broken else ladder[moved.point],
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
