"""The end of a request: its answer or its error, and what the metrics count of it.

An error in the bookkeeping of one request is logged and fails that request alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter

from serving.engine.policy import Policy
from serving.engine.request import Request
from serving.errors import DeadlineError, DeadlineTooShortError, ServingError, StageError
from serving.observe.metrics import Metrics, Outcome

FAILED = "a stage failed under this request; the log says why"
BROKEN = "the engine broke under this request; the log says why"
LOST = "an error of the server under this request; the log says why"
JUST_NOW = 1.0  # seconds
CACHED_FLOPS = 1024  # pairs of an exit and the exits evaluated
log = logging.getLogger(__name__)


class Outcomes:
    """Ends requests. All methods run on the event loop.

    Args:
        metrics: Counters of requests, answers and flops.
        flops_of: Flops of a request, from the exit that it leaves at (from 1) and the exits that
            its policy evaluates.
        least_deadline: Seconds below which a deadline is too short for an idle server too.
    """

    def __init__(
        self,
        metrics: Metrics,
        flops_of: Callable[[int, tuple[bool, ...]], int],
        least_deadline: float,
    ) -> None:
        self._metrics = metrics
        self._flops_of = lru_cache(CACHED_FLOPS)(flops_of)
        self._least_deadline = least_deadline
        self._last_unanswered = -math.inf
        self._ended = 0

    def missed(self, policy: Policy, text: str) -> DeadlineError:
        """Return the error for a missed deadline: of the client if it is too short when idle."""
        assert policy.deadline is not None
        if policy.deadline < self._least_deadline:
            least = 1e3 * self._least_deadline
            return DeadlineTooShortError(f"{text}; an idle server needs {least:.3g} ms")
        return DeadlineError(f"{text}; allow more time")

    def count(self, budget: str, outcome: Outcome, requests: int = 1) -> None:
        """Count requests that ended. An error of the metrics is logged and not raised."""
        if outcome == "refused":
            self._last_unanswered = perf_counter()
        self._ended += requests
        try:
            self._metrics.count(budget, outcome, requests)
        except Exception:
            log.exception("requests were not counted: %d of %s, %s", requests, budget, outcome)

    def expire(self, policy: Policy, text: str) -> DeadlineError:
        """Note that requests miss their deadline under load, and return the error for it.

        A deadline that an idle server misses too says nothing about the load.
        """
        error = self.missed(policy, text)
        if not isinstance(error, DeadlineTooShortError):
            self._last_unanswered = perf_counter()
        return error

    def overloaded(self) -> bool:
        """Return whether requests were refused, or missed their deadline, just now."""
        return perf_counter() - self._last_unanswered < JUST_NOW

    def ended(self) -> int:
        """Return the number of images of requests that ended so far, with an answer or without."""
        return self._ended

    def answer(self, request: Request, now: float, outcome: Outcome) -> None:
        """Answer a request with the deepest exit that it reached."""
        request.ended = True
        self._ended += 1
        flops = self._flops_of(len(request.opinions), request.policy.asks)
        answer = request.answer(now, flops, deadline_hit=outcome == "deadline")
        request.call.add(request, answer)
        try:
            self._metrics.answer(
                request.policy.name,
                len(answer.opinions) - 1,
                answer.opinion.confidence,
                flops=flops,
                total=answer.total,
                queue=answer.queue,
                compute=answer.compute,
                outcome=outcome,
            )
            if request.policy.reject is not None:
                self._metrics.rejection(request.policy.name, rejected=answer.rejected)
        except Exception:
            log.exception("an answer was not counted")

    def answer_early(self, request: Request, now: float) -> None:
        """Answer a request at its deadline, or fail it if it reached no exit."""
        if not request.opinions:
            error = self.expire(request.policy, "deadline_ms passed before the first exit")
            self.fail(request, "expired", error)
        elif request.sound:
            self.answer(request, now, "deadline")
        else:
            self.fail(request, "failed", StageError(FAILED))

    def fail(self, request: Request, outcome: Outcome, error: ServingError) -> None:
        """Fail a request, and with it the call that it belongs to."""
        request.ended = True
        if not request.call.future.done():
            request.call.future.set_exception(error)
        self.count(request.policy.name, outcome)

    def lose(self, request: Request, error: Exception) -> None:
        """Log an unexpected error and fail the request that it happened to."""
        log.error("the bookkeeping of a request failed", exc_info=error)
        self.fail(request, "failed", ServingError(LOST))
