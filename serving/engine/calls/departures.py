"""Requests leave the engine: with a batch, at their deadline, given up, or failed with the engine.

All methods run on the event loop. The slot of a request is free again once it is in no batch.
"""

from __future__ import annotations

from time import perf_counter

from serving.audit.metrics import Unknown
from serving.engine.admission import Admission
from serving.engine.background.copies import Copies
from serving.engine.background.draws import Copying
from serving.engine.batch import Leaving
from serving.engine.outcomes import BROKEN, FAILED, Outcomes
from serving.engine.request import Call, Request
from serving.engine.stage_threads import StageThreads
from serving.errors import StageError


class Departures:
    """Ends requests, and gives their slots back or lets copies take them over.

    Args:
        stage_threads: The threads that run the stages.
        admission: Takes slots back.
        copies: Copies under way.
        outcomes: Answers or fails each request.

    Attributes:
        copying: The uses of copies for which requests are drawn.
    """

    def __init__(
        self,
        stage_threads: StageThreads,
        admission: Admission,
        copies: Copies,
        outcomes: Outcomes,
    ) -> None:
        self.copying: tuple[Copying, ...] = ()
        self._stage_threads = stage_threads
        self._admission = admission
        self._copies = copies
        self._outcomes = outcomes

    def leave(self, leaving: Leaving) -> None:
        """End copies, or requests, that are in no batch and no queue any more.

        Some requests go on as copies. Their answers go out first.
        """
        if leaving.background:
            self._copies.leave(leaving)
            return
        now, outcomes = perf_counter(), self._outcomes
        self._admission.lag.seen(now - leaving.since)
        for request in leaving.requests:
            if request.ended:  # its client hung up, or its deadline answered it
                continue
            try:
                if leaving.how == "expired":
                    outcomes.answer_early(request, now)
                elif leaving.how == "failed" or not request.sound:
                    outcomes.fail(request, "failed", StageError(FAILED))
                else:
                    outcomes.answer(request, now, "degraded" if request.degraded else "answered")
            except Exception as error:  # noqa: BLE001 (logged there)
                outcomes.lose(request, error)
        self._admission.give([each.slot for each in leaving.requests if not each.audited])
        for use in self.copying:
            free = use.leave(leaving.requests, leaving.how)
            self._admission.give([each.slot for each in free])

    def expire(self, call: Call) -> None:
        """Answer a call at its deadline with the deepest exit that each request reached."""
        now = perf_counter()
        for request in [each for each in call.requests if not each.ended]:
            try:
                self._give_up(request, "cut_short")
                self._outcomes.answer_early(request, now)
            except Exception as error:  # noqa: BLE001 (logged there)
                self._outcomes.lose(request, error)

    def cancel(self, request: Request) -> None:
        """Give up a request under way, because its client waits no more."""
        self._give_up(request, "cancelled")
        self._outcomes.count(request.policy.name, "cancelled")

    def fail(self, call: Call) -> None:
        """Fail the requests of a call under way, because the engine broke."""
        for request in call.requests:
            if not request.ended:
                self._outcomes.fail(request, "failed", StageError(BROKEN))

    def _give_up(self, request: Request, reason: Unknown) -> None:
        for use in self.copying:
            use.give_up(request, reason)
        if self._stage_threads.drop(request):
            self._admission.give([request.slot])
