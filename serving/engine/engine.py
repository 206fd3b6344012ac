"""The engine as the event loop sees it: slots, calls, deadlines and ends.

    with engine.admit(count, policy) as slots:               the only entrance
        answers = await engine.classify(slots, images, ...)    or without a task: submit, close

The event loop owns slots, futures and timers. The stage threads own running batches. A request
ends in one of two ways (`departures`): the stage threads report it, or the event loop gives it up
because its client hung up or its deadline passed. If a stage thread breaks, all calls fail and no
more are taken (`_break`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from serving.engine.admission import Admission, Admitted
from serving.engine.background.audits import Audits
from serving.engine.background.copies import Copies
from serving.engine.background.draws import Copying
from serving.engine.calls.departures import Departures
from serving.engine.calls.submission import Submission
from serving.engine.outcomes import Outcomes
from serving.engine.overload import OverloadDetector
from serving.engine.policy import Policy
from serving.engine.request import Answer, Run
from serving.engine.scheduling.scheduler import Scheduler
from serving.engine.stage_threads import StageThreads
from serving.errors import NotReadyError
from serving.observe.metrics import Metrics
from serving.runtime.base import Runtime, Slots

DRAINING = "the server is shutting down; try again, or try another server"
# An idle server misses a deadline below this many times the first exit's time, measured at start,
# plus this time in seconds for HTTP and decoding.
IDLE_MARGIN, IDLE_SECONDS = 2.0, 2e-3
JOIN_SECONDS = 1.0  # in which idle threads end
log = logging.getLogger(__name__)


class Engine:
    """Runs requests through the stages.

    Args:
        runtime: The stages.
        pool: The slots.
        scheduler: A scheduler for as many stages.
        metrics: Counters of batches and of ends of requests.
        flops_of: Flops of a request: see `Outcomes`.
        threads: Most batches under way at once.
        overload: Detector of overload, under which requests leave at their next exit.
        audits: Audits of answers. `None`: no answer is audited.

    Attributes:
        stage_threads: The threads that run the stages.
        admission: The entrance, which takes slots and gives them back.
        latency: Times of the stages, which the stage threads keep up to date.
        copies: Copies of answered requests, which run in free slots.
        submit: Starts a call, as `Submission.submit`.
        close: Ends a call that is awaited no more, as `Submission.close`.
        refusal: The reason why requests are refused with 503. `None`: they are taken.
        missed: Returns the error for a missed deadline.
        max_batch: Most requests in one batch.
        overloaded: Says whether requests were refused, or missed their deadline, just now.
        ended: Returns the number of images whose requests ended so far, also without an answer.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: Slots,
        scheduler: Scheduler,
        metrics: Metrics,
        flops_of: Callable[[int, tuple[bool, ...]], int],
        threads: int,
        overload: OverloadDetector | None = None,
        audits: Audits | None = None,
    ) -> None:
        self.pool = pool
        self.max_batch = scheduler.max_batch
        self.latency = scheduler.latency
        self.refusal: str | None = None
        least = IDLE_SECONDS + IDLE_MARGIN * scheduler.latency.time(0, 1)
        outcomes = Outcomes(metrics, flops_of, least)
        self.missed = outcomes.missed
        self.overloaded = outcomes.overloaded
        self.ended = outcomes.ended
        overload = overload or OverloadDetector(None)
        stage_threads = StageThreads(runtime, pool, scheduler, overload, metrics, threads)
        admission = Admission(pool, stage_threads, outcomes)
        copies = Copies(stage_threads, pool, admission, scheduler.background, self._wake)
        departures = Departures(stage_threads, admission, copies, outcomes)
        submission = Submission(stage_threads, pool, admission, departures, audits, self._wake)
        admission.make_room = copies.make_room
        stage_threads.leave, stage_threads.on_break = departures.leave, self._break
        self.stage_threads, self.admission, self.copies = stage_threads, admission, copies
        self._departures, self._submission = departures, submission
        self.submit, self.close = submission.submit, submission.close
        self._audits = audits
        if audits is not None:
            audits.use(copies)
            self.start_copying(audits)
        self._when_broken: list[Callable[[], object]] = []
        self._woken = False
        metrics.watch(pool.slots, pool.nbytes, lambda: self.in_progress, lambda: scheduler.waiting)

    @property
    def ready(self) -> bool:
        """True while it takes requests."""
        return self.refusal is None

    @property
    def broken(self) -> str | None:
        """The reason why the engine broke. It never recovers: the process has to end."""
        return self._submission.broken

    @property
    def in_progress(self) -> int:
        """Number of requests with a slot, without copies. Any thread can read it."""
        return self.pool.slots - self.pool.free - len(self.copies)

    def start_copying(self, use: Copying) -> None:
        """Draw requests for another use of copies, from the next one on."""
        departures = self._departures
        departures.copying = (*departures.copying, use)

    def stop_copying(self, use: Copying) -> None:
        """Draw no more requests for a use of copies, and give it none that leaves."""
        departures = self._departures
        departures.copying = tuple(each for each in departures.copying if each is not use)

    def when_broken(self, callback: Callable[[], object]) -> None:
        """Call back on the event loop, once, if the engine breaks."""
        self._when_broken.append(callback)

    def admit(self, count: int, policy: Policy) -> Admitted:
        """Take `count` slots for the images of a call, or raise and take no slot.

        The result is a context of the list of slots, and gives those back that are still in it.

        Raises:
            NotReadyError: The server is shutting down, or its engine broke.
            PoolFullError: Fewer than `count` slots are free.
            DeadlineError: The first exit takes longer than the deadline allows.
        """
        if self.refusal is not None:
            raise NotReadyError(self.refusal)
        if policy.deadline is not None:
            self.admission.check_deadline(policy, count, 0.0)
        return Admitted(self.admission, policy, self.admission.take(count, policy))

    async def classify(
        self,
        slots: list[int],
        images: Sequence[NDArray[np.uint8]],
        policy: Policy,
        arrived: float,
        runs: Sequence[list[Run]] = (),
    ) -> list[Answer]:
        """Submit images and await their answers. If it is cancelled, the call is given up.

        Raises:
            DeadlineError: The deadline passes before the first exit.
            NotReadyError, StageError: The engine broke before, or a stage failed.
        """
        call = self.submit(slots, images, policy, arrived, runs=runs)
        try:
            return await call.future
        finally:
            self.close(call)

    async def drain(self, seconds: float | None = None) -> bool:
        """Stop, and return whether all requests and threads ended within `seconds`."""
        self.refusal = self.refusal or DRAINING
        self.copies.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.admission.idle.wait()
        if self._audits is not None:
            await self._audits.close()
        idle = self.broken is None and self.admission.idle.is_set()
        if self.stage_threads.close(JOIN_SECONDS if idle else 0.0) and idle:
            return True
        taken = self.pool.slots - self.pool.free
        log.warning("the engine stopped with %d requests under way", taken)
        return False

    def _wake(self) -> None:
        """Wake threads at the end of this turn, so that what arrives together runs together."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._woken = False
        self.stage_threads.wake()

    def _break(self, reason: str) -> None:
        """Fail all calls, and take no more."""
        self.refusal = reason
        self._submission.fail(reason)
        self.admission.idle.set()  # there is nothing more to wait for
        for callback in self._when_broken:
            callback()
