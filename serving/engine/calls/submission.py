"""Calls under way: from their submission to the end of the wait for their answers.

All methods run on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.engine.admission import Admission
from serving.engine.background.audits import Audits
from serving.engine.calls.departures import Departures
from serving.engine.opinion import Opinion
from serving.engine.policy import Policy
from serving.engine.request import Call, Request, Run
from serving.engine.stage_threads import StageThreads
from serving.errors import NotReadyError
from serving.runtime.base import Slots


class Submission:
    """Submits calls and closes them.

    Args:
        stage_threads: The threads that run the stages.
        pool: The slots.
        admission: Checks deadlines.
        departures: Ends requests.
        audits: Audits of answers. `None`: no answer is audited.
        wake: Wakes the threads at the end of this turn of the event loop.

    Attributes:
        broken: The reason why the engine broke. `None`: it works.
    """

    def __init__(
        self,
        stage_threads: StageThreads,
        pool: Slots,
        admission: Admission,
        departures: Departures,
        audits: Audits | None,
        wake: Callable[[], None],
    ) -> None:
        self.broken: str | None = None
        self._pool = pool
        self._stage_threads = stage_threads
        self._admission = admission
        self._departures = departures
        self._audits = audits
        self._wake = wake
        self._under_way: set[Call] = set()

    def submit(
        self,
        slots: list[int],
        images: Sequence[NDArray[np.uint8]],
        policy: Policy,
        arrived: float,
        opinions: Sequence[list[Opinion | None]] = (),
        runs: Sequence[list[Run]] = (),
    ) -> Call:
        """Start a call. `close` it once its future is done or cancelled.

        Args:
            slots: Admitted slots, one for each image. They are taken out of the list.
            images: Images of one call, each uint8 [H, W, 3].
            policy: The policy of each image.
            arrived: Time of arrival by `time.perf_counter`. Deadlines count from there.
            opinions: An empty list for each request, to which its opinions are appended.
            runs: An empty list for each request, to which its batches are appended.

        Raises:
            NotReadyError: The engine broke before.
            DeadlineError: The deadline leaves no time for the first exit.
        """
        submitted = perf_counter()
        if self.broken is not None or policy.deadline is not None:
            self._check(policy, len(slots), submitted - arrived)
        policy = policy if self._audits is None else self._audits.policy_for(policy)
        call = self._new_call(slots, images, policy, arrived, submitted)
        if opinions or runs:
            self._collect(call.requests, opinions, runs)
        for use in self._departures.copying:
            use.draw(call.requests, images)
        self._stage_threads.add(call.requests)
        slots.clear()  # from here on they come back with their requests
        self._under_way.add(call)
        if policy.deadline is not None:
            self._set_timer(call)
        self._wake()
        return call

    def close(self, call: Call) -> None:
        """End a call that is awaited no more, and give up its requests under way."""
        self._under_way.discard(call)
        if call.timer is not None:
            call.timer.cancel()
        for request in call.requests:
            if not request.ended:
                self._departures.cancel(request)

    def fail(self, reason: str) -> None:
        """Fail all calls under way, because the engine broke, and take no more."""
        self.broken = reason
        for call in [*self._under_way]:
            self._departures.fail(call)

    def _check(self, policy: Policy, count: int, age: float) -> None:
        if self.broken is not None:
            raise NotReadyError(self.broken)
        self._admission.check_deadline(policy, count, age)

    def _new_call(
        self,
        slots: Sequence[int],
        images: Sequence[NDArray[np.uint8]],
        policy: Policy,
        arrived: float,
        submitted: float,
    ) -> Call:
        """Put images into their slots. Return a call with a request for each."""
        call = Call(asyncio.get_running_loop().create_future())
        lag = self._admission.lag.seconds
        for slot, image in zip(slots, images, strict=True):
            self._pool.put(slot, image)
            call.requests.append(Request(policy, slot, arrived, submitted, call, lag=lag))
        return call

    def _collect(
        self,
        requests: Sequence[Request],
        opinions: Sequence[list[Opinion | None]],
        runs: Sequence[list[Run]],
    ) -> None:
        """Let each request append its opinions, or its batches, to a list of its own."""
        if opinions:
            for request, each in zip(requests, opinions, strict=True):
                request.opinions = each
        if runs:
            self._stage_threads.records = True
            for request, batches in zip(requests, runs, strict=True):
                request.runs = batches

    def _set_timer(self, call: Call) -> None:
        """Expire a call at the time at which its requests must leave."""
        request = call.requests[0]
        seconds = request.due - request.submitted
        call.timer = call.future.get_loop().call_later(seconds, self._departures.expire, call)
