"""The loop: schedule, run, update.

The event loop owns all state (pool, scheduler, requests), so there are no locks. Only
`_run` is on a worker thread: it copies a batch out of its slots, runs the stage and copies
the features back. Up to `threads` batches are under way at once.

Whoever gives a request up cancels its future, and the slot comes back: at once where the
request waits, with its batch where a stage is running.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from serving import metrics
from serving.errors import DeadlineError, NotReadyError, OfframpError, PoolFullError, StageError
from serving.policy import Policy
from serving.pool import Pool
from serving.request import Answer, Opinion, Request
from serving.runtime import Runtime
from serving.scheduler import Batch, Scheduler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a worker thread brings back: an outcome for each request, and the seconds."""

    opinions: list[Opinion]
    seconds: float


class Engine:
    """Runs requests through the stages.

    Args:
        runtime: the stages.
        pool: the slots.
        scheduler: for as many stages.
        metrics: told of every batch and every end.
        threads: batches under way at most.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: Pool,
        scheduler: Scheduler,
        metrics: metrics.Metrics,
        threads: int,
    ) -> None:
        self._runtime = runtime
        self._pool = pool
        self._scheduler = scheduler
        self._metrics = metrics
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, "stage")
        self._running = 0
        self._woken = False
        self._draining = False
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
        """
        if self._draining:
            raise NotReadyError("the server is shutting down; come again, or ask another")
        try:
            slots = self._pool.take(count)
        except PoolFullError:
            self._metrics.count(policy.name, "refused", count)
            raise
        self._idle.clear()
        try:
            yield slots
        except asyncio.CancelledError:
            # those that were submitted are counted as their futures are cancelled
            self._metrics.count(policy.name, "cancelled", len(slots))
            raise
        finally:
            for slot in slots:
                self._give(slot)

    async def answer(
        self,
        slots: list[int],
        images: Sequence[NDArray[np.uint8]],
        policy: Policy,
        arrived: float,
    ) -> list[Answer]:
        """Run the images, each uint8 [H, W, 3], and wait for their answers.

        Cancel it, and what it holds comes back.

        Args:
            slots: as admitted, one for each image; they are taken out of the list.
            images: of one call.
            policy: for each of them.
            arrived: when the call came, by `time.perf_counter`; deadlines count from there.

        Raises:
            DeadlineError: the deadline passed before the first exit.
            StageError: a stage failed.
        """
        assert len(images) == len(slots)
        futures = [self._submit(slots.pop(), image, policy, arrived) for image in images]
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()

    async def drain(self) -> None:
        """Take no more requests, let those under way end, and stop the threads."""
        self._draining = True
        await self._idle.wait()
        self._executor.shutdown()

    def _submit(
        self, slot: int, image: NDArray[np.uint8], policy: Policy, arrived: float
    ) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        request = Request(policy, slot, arrived, perf_counter(), loop.create_future())
        request.future.add_done_callback(partial(self._ended, request))
        self._pool.put(slot, image)
        self._scheduler.add(request)
        left = policy.left(request.submitted - arrived)
        if left is not None:
            self._expire_in(request, left)
        self._wake()
        return request.future

    def _wake(self) -> None:
        """Schedule at the end of this turn, so that what arrives together runs together."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._schedule)

    def _schedule(self) -> None:
        self._woken = False
        loop = asyncio.get_running_loop()
        while self._running < self._threads and (batch := self._scheduler.schedule()):
            self._running += 1
            ran = loop.run_in_executor(self._executor, self._run, batch)
            ran.add_done_callback(partial(self._update, batch))

    def _run(self, batch: Batch) -> _Ran:
        """On a worker thread: one batch through one stage, from its slots to its slots."""
        started = perf_counter()
        slots = batch.slots
        output = self._runtime.run(batch.stage, self._pool.gather(batch.stage, slots))
        assert output.confidence is not None
        assert output.probabilities is not None
        self._pool.scatter(batch.stage, slots, output.features)
        opinions = list(map(Opinion, output.confidence.tolist(), output.probabilities))
        return _Ran(opinions, perf_counter() - started)

    def _update(self, batch: Batch, future: asyncio.Future[_Ran]) -> None:
        self._running -= 1
        error = future.exception()
        if error is None:
            ran = future.result()
            self._metrics.batch(batch.stage, len(batch.requests), ran.seconds)
            for request in batch.requests:
                request.compute += ran.seconds
                request.dropped = request.future.done()
            left = self._scheduler.update(batch, ran.opinions)
        else:
            log.error("stage %d failed", batch.stage + 1, exc_info=error)
            left = list(batch.requests)
        for request in left:
            self._leave(request, failed=error is not None)
        self._schedule()

    def _leave(self, request: Request, *, failed: bool) -> None:
        if not request.future.done():  # else its client hung up, or its deadline answered it
            if failed or not math.isfinite(request.opinions[-1].confidence):
                error = StageError("a stage failed under this request; the log says why")
                self._fail(request, "failed", error)
            else:
                self._resolve(request, deadline_hit=False)
        self._give(request.slot)

    def _resolve(self, request: Request, *, deadline_hit: bool) -> None:
        answer = request.answer(perf_counter(), deadline_hit=deadline_hit)
        request.future.set_result(answer)
        self._metrics.answer(
            request.policy.name,
            answer.exit - 1,
            answer.opinions[-1].confidence,
            total=answer.total,
            queue=answer.queue,
            compute=answer.compute,
            deadline_hit=deadline_hit,
        )

    def _fail(self, request: Request, outcome: metrics.Outcome, error: OfframpError) -> None:
        request.future.set_exception(error)
        self._metrics.count(request.policy.name, outcome)

    def _expire_in(self, request: Request, seconds: float) -> None:
        if seconds <= 0:
            self._expire(request)
        else:
            timer = asyncio.get_running_loop().call_later(seconds, self._expire, request)
            request.future.add_done_callback(lambda _: timer.cancel())

    def _expire(self, request: Request) -> None:
        """At the deadline: answer with the deepest exit reached."""
        if request.future.done():
            return
        if request.opinions:
            self._resolve(request, deadline_hit=True)
        else:
            error = DeadlineError("deadline_ms passed before the first exit; allow more time")
            self._fail(request, "expired", error)
        self._drop(request)

    def _ended(self, request: Request, future: asyncio.Future[Answer]) -> None:
        if future.cancelled():
            self._metrics.count(request.policy.name, "cancelled")
            self._drop(request)

    def _drop(self, request: Request) -> None:
        if self._scheduler.drop(request):
            self._give(request.slot)

    def _give(self, slot: int) -> None:
        self._pool.give(slot)
        if self._pool.free == self._pool.slots:
            self._idle.set()
