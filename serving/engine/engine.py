"""The engine as the event loop sees it: slots, calls, deadlines and ends.

    with engine.admit(count, policy) as slots:               the one door
        answers = await engine.classify(slots, images, ...)    or without a task: submit, close

The loop owns slots, futures and timers; the stage threads own who waits and runs. A request
leaves by one of two ways: the threads say so (`_leave`), or the loop gives it up (`_give_up`:
its client hung up, its deadline passed). The slot comes back once it is in no batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving.engine.overload import DrainRate, Lag, OverloadDetector
from serving.engine.policy import Policy
from serving.engine.request import Answer, Call, Request
from serving.engine.scheduler import Scheduler
from serving.engine.stage_threads import Leaving, StageThreads
from serving.errors import (
    DeadlineError,
    DeadlineTooShortError,
    NotReadyError,
    PoolFullError,
    ServingError,
    StageError,
)
from serving.observe.metrics import Metrics, Outcome
from serving.runtime.base import Slots
from serving.runtime.cpu import Runtime

# An idle server misses a deadline below this many times the first exit's time, measured at start,
# plus this time in seconds for HTTP and decoding.
IDLE_MARGIN, IDLE_SECONDS = 2.0, 2e-3
FAILED = "a stage failed under this request; the log says why"


class Engine:
    """Runs requests through the stages.

    Args:
        runtime: the stages.
        pool: the slots.
        scheduler: for as many stages.
        metrics: told of every batch and every end.
        flops_of: of a request, by the exit it leaves at (from 1) and the exits that it asks.
        threads: batches under way at most.
        overload: above it requests leave at their next exit; None: they never have to.
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
    ) -> None:
        self._pool = pool
        self._latency = scheduler.latency
        self._metrics = metrics
        self._flops_of = flops_of
        self._threads = StageThreads(
            runtime,
            pool,
            scheduler,
            overload or OverloadDetector(None),
            metrics,
            threads,
            self._leave,
        )
        self._drain_rate = DrainRate()
        self._lag = Lag()
        self._woken = False
        self._draining = False
        self._least_deadline = IDLE_SECONDS + IDLE_MARGIN * scheduler.latency.time(0, 1)
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.watch(
            pool.slots, pool.nbytes, lambda: pool.slots - pool.free, lambda: scheduler.waiting
        )

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return not self._draining

    @contextmanager
    def admit(self, count: int, policy: Policy) -> Iterator[list[int]]:
        """The one door: `count` slots for the images of a call, all or none.

        Slots that are still in the list when the context ends are given back.

        Raises:
            NotReadyError: the server is shutting down.
            PoolFullError: there are not as many free slots.
            DeadlineError: the first exit takes longer than the deadline allows.
        """
        if self._draining:
            raise NotReadyError("the server is shutting down; come again, or ask another")
        self._check_deadline(policy, count, 0.0)
        slots = self._take(count, policy)
        self._idle.clear()
        try:
            yield slots
        except asyncio.CancelledError:
            # those that were submitted are counted as their call ends
            self._metrics.count(policy.name, "cancelled", len(slots))
            raise
        finally:
            self._give(slots)

    async def classify(
        self,
        slots: list[int],
        images: Sequence[NDArray[np.uint8]],
        policy: Policy,
        arrived: float,
    ) -> list[Answer]:
        """`submit` images and wait for their answers. Cancel it, and what it holds comes back.

        Raises:
            DeadlineError: the deadline passes before the first exit.
            StageError: a stage failed.
        """
        call = self.submit(slots, images, policy, arrived)
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
    ) -> Call:
        """Let images run, each uint8 [H, W, 3]; `close` it once its future is done or cancelled.

        Args:
            slots: as admitted, one for each image; they are taken out of the list.
            images: of one call.
            policy: for each of them.
            arrived: when the call came, by `time.perf_counter`; deadlines count from there.

        Raises:
            DeadlineError: the deadline leaves no time for the first exit.
        """
        assert len(images) == len(slots)
        submitted = perf_counter()
        self._check_deadline(policy, len(slots), submitted - arrived)
        loop = asyncio.get_running_loop()
        call, lag = Call(loop.create_future()), self._lag.seconds
        for image in images:
            self._pool.put(slots[-1], image)
            call.requests.append(Request(policy, slots.pop(), arrived, submitted, call, lag=lag))
        left = policy.seconds_left(submitted - arrived)
        if left is not None:
            call.timer = loop.call_later(left - lag, self._expire, call)
        self._threads.add(call.requests)
        self._wake()
        return call

    def close(self, call: Call) -> None:
        """Nobody waits for a call any more: what is still under way is given up."""
        if call.timer is not None:
            call.timer.cancel()
        for request in call.requests:
            if not request.ended:
                self._metrics.count(request.policy.name, "cancelled")
                self._give_up(request)

    async def drain(self) -> None:
        """Take no more requests, let those under way end, and stop the threads."""
        self._draining = True
        await self._idle.wait()
        self._threads.close()

    def missed(self, policy: Policy, text: str) -> DeadlineError:
        """Return the error for a missed deadline: of the client if it is too short when idle."""
        assert policy.deadline is not None
        if policy.deadline < self._least_deadline:
            least = 1e3 * self._least_deadline
            return DeadlineTooShortError(f"{text}; an idle server needs {least:.3g} ms")
        return DeadlineError(f"{text}; allow more time")

    def _check_deadline(self, policy: Policy, count: int, age: float) -> None:
        left = policy.seconds_left(age)
        if left is None:
            return
        alone = self._latency.time(0, 1)
        if left >= alone + self._threads.seconds_to_first_stage() + self._lag.seconds:
            return
        self._lag.decay()
        if left < alone:
            self._latency.decay(0)
        self._metrics.count(policy.name, "expired", count)
        raise self.missed(policy, "deadline_ms leaves no time to reach the first exit")

    def _take(self, count: int, policy: Policy) -> list[int]:
        try:
            return self._pool.take(count)
        except PoolFullError as error:
            self._metrics.count(policy.name, "refused", count)
            missing = count - self._pool.free
            seconds = self._drain_rate.seconds_until(missing, perf_counter())
            raise PoolFullError(str(error), seconds) from None

    def _wake(self) -> None:
        """At the end of this turn, so that what arrives together runs together."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._woken = False
        self._threads.wake()

    def _leave(self, leaving: Leaving) -> None:
        """These are in no batch and no queue any more."""
        now = perf_counter()
        self._lag.seen(now - leaving.since)
        for request in leaving.requests:
            if request.ended:  # its client hung up, or its deadline answered it
                continue
            if leaving.how == "expired":
                self._end_early(request, now)
            elif leaving.how == "failed" or not request.sound:
                self._fail(request, "failed", StageError(FAILED))
            else:
                self._resolve(request, now, "degraded" if request.degraded else "answered")
        self._give([request.slot for request in leaving.requests])

    def _expire(self, call: Call) -> None:
        """At the deadline: answer with the deepest exit reached."""
        now = perf_counter()
        for request in call.requests:
            if not request.ended:
                self._give_up(request)
                self._end_early(request, now)

    def _end_early(self, request: Request, now: float) -> None:
        if request.opinions and not request.sound:
            self._fail(request, "failed", StageError(FAILED))
        elif request.opinions:
            self._resolve(request, now, "deadline")
        else:
            error = self.missed(request.policy, "deadline_ms passed before the first exit")
            self._fail(request, "expired", error)

    def _resolve(self, request: Request, now: float, outcome: Outcome) -> None:
        request.ended = True
        answer = request.answer(now, deadline_hit=outcome == "deadline")
        request.call.add(request, answer)
        self._metrics.answer(
            request.policy.name,
            answer.exit - 1,
            answer.opinion.confidence,
            flops=self._flops_of(answer.exit, answer.policy.asks),
            total=answer.total,
            queue=answer.queue,
            compute=answer.compute,
            outcome=outcome,
        )

    def _fail(self, request: Request, outcome: Outcome, error: ServingError) -> None:
        request.ended = True
        self._metrics.count(request.policy.name, outcome)
        if not request.call.future.done():
            request.call.future.set_exception(error)

    def _give_up(self, request: Request) -> None:
        if self._threads.drop(request):
            self._give([request.slot])

    def _give(self, slots: Sequence[int]) -> None:
        if not slots:
            return
        for slot in slots:
            self._pool.give(slot)
        self._drain_rate.freed(perf_counter(), len(slots))
        if self._pool.free == self._pool.slots:
            self._idle.set()
