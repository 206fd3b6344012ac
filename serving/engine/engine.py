"""The engine as the event loop sees it: slots, calls, deadlines and ends.

    with engine.admit(count, policy) as slots:               the only entrance
        answers = await engine.classify(slots, images, ...)    or without a task: submit, close

The event loop owns slots, futures and timers. The stage threads own running batches. A request
ends in one of two ways: the stage threads report it (`_leave`), or the event loop gives it up
because its client hung up or its deadline passed (`_give_up`). Its slot is free again once it is
in no batch. If a stage thread breaks, all calls fail and no more are taken (`_break`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.audit.metrics import Unknown
from serving.engine.admission import Admission, Admitted
from serving.engine.background.audits import Audits
from serving.engine.background.copies import Copies
from serving.engine.background.draws import Copying
from serving.engine.batch import Leaving
from serving.engine.outcomes import BROKEN, FAILED, Outcomes
from serving.engine.overload import OverloadDetector
from serving.engine.policy import Policy
from serving.engine.request import Answer, Call, Opinion, Request, Run
from serving.engine.scheduler import Scheduler
from serving.engine.stage_threads import StageThreads
from serving.errors import NotReadyError, StageError
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
        refusal: The reason why requests are refused with 503. `None`: they are taken.
        missed: Returns the error for a missed deadline.
        max_batch: Most requests in one batch.
        overloaded: Says whether requests were refused, or missed their deadline, just now.
        ended: Returns the number of images whose requests ended so far, also without an answer.
        broken: The reason why the engine broke. It never recovers: the process has to end.
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
        overload = overload or OverloadDetector(None)
        self.stage_threads = StageThreads(
            runtime, pool, scheduler, overload, metrics, threads, self._leave, self._break
        )
        self.refusal: str | None = None
        self.broken: str | None = None
        least = IDLE_SECONDS + IDLE_MARGIN * scheduler.latency.time(0, 1)
        self._outcomes = Outcomes(metrics, flops_of, least)
        self.missed = self._outcomes.missed
        self.overloaded = self._outcomes.overloaded
        self.ended = self._outcomes.ended
        self.admission = Admission(pool, self.stage_threads, self._outcomes)
        self.copies = Copies(
            self.stage_threads, pool, self.admission, scheduler.background, self._wake
        )
        self.admission.make_room = self.copies.make_room
        self._audits = audits
        self._copying: tuple[Copying, ...] = ()
        if audits is not None:
            audits.use(self.copies)
            self.start_copying(audits)
        self._calls: set[Call] = set()
        self._when_broken: list[Callable[[], object]] = []
        self._woken = False
        metrics.watch(pool.slots, pool.nbytes, lambda: self.in_progress, lambda: scheduler.waiting)

    @property
    def ready(self) -> bool:
        """True while it takes requests."""
        return self.refusal is None

    @property
    def in_progress(self) -> int:
        """Number of requests with a slot, without copies. Any thread can read it."""
        return self.pool.slots - self.pool.free - len(self.copies)

    def start_copying(self, use: Copying) -> None:
        """Draw requests for another use of copies, from the next one on."""
        self._copying = (*self._copying, use)

    def stop_copying(self, use: Copying) -> None:
        """Draw no more requests for a use of copies, and give it none that leaves."""
        self._copying = tuple(each for each in self._copying if each is not use)

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
        assert len(images) == len(slots)
        if self.broken is not None:
            raise NotReadyError(self.broken)
        submitted = perf_counter()
        left = policy.seconds_left(submitted - arrived)
        if left is not None:
            self.admission.check_deadline(policy, len(slots), submitted - arrived)
        if self._audits is not None:
            policy = self._audits.policy_for(policy)
        loop = asyncio.get_running_loop()
        call, lag = Call(loop.create_future()), self.admission.lag.seconds
        for slot, image in zip(slots, images, strict=True):
            self.pool.put(slot, image)
            call.requests.append(Request(policy, slot, arrived, submitted, call, lag=lag))
        if opinions or runs:
            self._collect(call.requests, opinions, runs)
        for use in self._copying:
            use.draw(call.requests, images)
        self.stage_threads.add(call.requests)
        slots.clear()  # from here on they come back with their requests
        self._calls.add(call)
        if left is not None:
            call.timer = loop.call_later(left - lag, self._expire, call)
        self._wake()
        return call

    def close(self, call: Call) -> None:
        """End a call that is awaited no more, and give up its requests under way."""
        self._calls.discard(call)
        if call.timer is not None:
            call.timer.cancel()
        for request in call.requests:
            if not request.ended:
                self._give_up(request, "cancelled")
                self._outcomes.count(request.policy.name, "cancelled")

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
            self.stage_threads.records = True
            for request, batches in zip(requests, runs, strict=True):
                request.runs = batches

    def _wake(self) -> None:
        """Wake threads at the end of this turn, so that what arrives together runs together."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._woken = False
        self.stage_threads.wake()

    def _leave(self, leaving: Leaving) -> None:
        """End copies, or requests, that are in no batch and no queue any more.

        Some requests go on as copies. Their answers go out first.
        """
        if leaving.background:
            self.copies.leave(leaving)
            return
        now, outcomes = perf_counter(), self._outcomes
        self.admission.lag.seen(now - leaving.since)
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
        self.admission.give([each.slot for each in leaving.requests if not each.audited])
        for use in self._copying:
            free = use.leave(leaving.requests, leaving.how)
            self.admission.give([each.slot for each in free])

    def _expire(self, call: Call) -> None:
        """Answer a call at its deadline with the deepest exit that each request reached."""
        now = perf_counter()
        for request in [each for each in call.requests if not each.ended]:
            try:
                self._give_up(request, "cut_short")
                self._outcomes.answer_early(request, now)
            except Exception as error:  # noqa: BLE001 (logged there)
                self._outcomes.lose(request, error)

    def _break(self, reason: str) -> None:
        """Fail all calls, and take no more."""
        self.refusal = self.broken = reason
        requests = [request for call in self._calls for request in call.requests]
        for request in requests:
            if not request.ended:
                self._outcomes.fail(request, "failed", StageError(BROKEN))
        self.admission.idle.set()  # there is nothing more to wait for
        for callback in self._when_broken:
            callback()

    def _give_up(self, request: Request, reason: Unknown) -> None:
        for use in self._copying:
            use.give_up(request, reason)
        if self.stage_threads.drop(request):
            self.admission.give([request.slot])
