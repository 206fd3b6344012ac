"""The threads that run stages. Each repeats: settle its last batch, take the next, run it.

Requests that continue to the next stage need no round trip over the event loop, which is notified
of requests that leave only. One lock guards the scheduler, its latency model and the
requests that it holds. The threads are daemons and start with the first request.

A stage that fails fails its batch. Any other exception is a bug: it stops all threads for good,
and the event loop gets the reason.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from time import perf_counter

from serving.engine.batch import Batch, Leaving
from serving.engine.batch_run import Ran, predicted_seconds, run_batch
from serving.engine.overload import OverloadDetector
from serving.engine.request import Request
from serving.engine.scheduling.scheduler import Scheduler
from serving.engine.scheduling.turns import ModelTurns
from serving.observe.metrics import Metrics
from serving.priorities import lower_priority
from serving.runtime.base import Runtime, Slots

log = logging.getLogger(__name__)


class StageThreads:
    """Runs the batches of a scheduler, up to `threads` at once.

    Args:
        runtime: The stages.
        pool: The slots with the tensors of requests.
        scheduler: The queues of all stages.
        overload: Detector of overload, under which requests leave at their next exit.
        metrics: Counters of batches.
        threads: Number of threads.

    Attributes:
        broken: The reason why the threads broke. `None`: they work.
        leave: Called on the event loop with requests that leave.
        on_break: Called on the event loop, once, with the reason why the threads broke.
        records: Some requests record the batches that they are part of.
        turns: Its turns on the cores. `None`: no other model computes.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: Slots,
        scheduler: Scheduler,
        overload: OverloadDetector,
        metrics: Metrics,
        threads: int,
    ) -> None:
        self.runtime = runtime
        self.broken: str | None = None
        self.leave: Callable[[Leaving], None] = lambda _: None
        self.on_break: Callable[[str], None] = lambda _: None
        self.records = False
        self.turns: ModelTurns | None = None
        self._pool = pool
        self._scheduler = scheduler
        self._overload = overload
        self._metrics = metrics
        self._count = threads
        self._threads: list[Thread] = []
        self._free_at = [0.0] * threads  # predicted time at which each can take a batch
        self._state = Condition()
        self._idle = 0
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def started(self) -> int:
        """Number of threads that were started and have not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def running(self) -> int:
        """Number of threads that run a batch."""
        return len(self._threads) - self._idle

    def add(self, requests: Sequence[Request], *, background: bool = False) -> None:
        """Queue new requests or copies, on the event loop. `wake` starts them."""
        self._loop = asyncio.get_running_loop()
        if not self._threads:
            self._start()
        try:
            with self._state:
                for request in requests:
                    self._scheduler.add(request, background=background)
        except Exception as error:
            self._break(error)
            raise

    def reaches_first_exit(self, seconds: float, lag: float) -> bool:
        """Return whether a new request can be answered by the first exit within `seconds`.

        If not, lower a prediction that alone refused it.

        Args:
            seconds: Time that is left to its deadline.
            lag: Seconds that its answer waits for the event loop.
        """
        with self._state:
            latency, scheduler = self._scheduler.latency, self._scheduler
            alone = latency.time(0, 1)
            busy = max(0.0, min(self._free_at) - perf_counter())
            queue = scheduler.seconds_to_first_stage() / self._count
            if seconds >= alone + busy + queue + lag:
                return True
            if seconds < alone:
                latency.decay(0)
            return False

    def wake(self) -> None:
        """Wake as many idle threads as there are requests in queues, or one for copies."""
        if self._idle:
            with self._state:
                waiting = self._scheduler.waiting
                self._state.notify(waiting or min(1, self._scheduler.background.waiting))

    def drop(self, request: Request) -> bool:
        """Give a request up. True: it was in a queue and is out. False: it will be in a Leaving."""
        request.ended = True
        try:
            with self._state:
                return self._scheduler.drop(request)
        except Exception as error:  # noqa: BLE001 (logged there)
            self._break(error)
            return False

    def close(self, seconds: float) -> bool:
        """Stop the threads. Return whether all ended within `seconds`."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        until = perf_counter() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - perf_counter()))
        return not self.started

    def _start(self) -> None:
        self._threads = [
            Thread(target=self._work, args=(number,), name=f"stage-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        lower_priority()
        try:
            self._run_batches(number)
        except BaseException as error:  # noqa: BLE001 (logged there)
            self._break(error)

    def _run_batches(self, number: int) -> None:
        ran: Ran | None = None
        while True:
            with self._state:
                if self.broken is not None:
                    return
                leaving = self._settle(ran)
                batch = self._next()
                self._free_at[number] = perf_counter()
                if batch is not None:
                    self._free_at[number] += predicted_seconds(batch, self._scheduler.latency)
                if batch is None and not leaving:
                    if self._closed:
                        return
                    self._idle += 1
                    self._state.wait(self._scheduler.background.seconds_to_next(perf_counter()))
                    self._idle -= 1
            if leaving and not self._post(self._tell, leaving):
                return
            ran = None if batch is None else self._run(batch)

    def _settle(self, ran: Ran | None) -> list[Leaving]:
        """Report a batch to the scheduler. Return the requests that leave, or have expired."""
        leaving, now = [], perf_counter() if ran is None else ran.ended
        if ran is not None:
            if ran.decision is None:
                failed = self._scheduler.failed(ran.batch)
                leaving.append(Leaving(failed, "failed", now, ran.batch.background))
            elif finished := self._scheduler.update(ran.batch, ran.decision, ran.seconds):
                leaving.append(Leaving(finished, "finished", now, ran.batch.background))
        if expired := self._scheduler.expired(now):
            leaving.append(Leaving(expired, "expired", now))
        return leaving

    def _next(self) -> Batch | None:
        degraded = self._overload.update(self._scheduler.backlog)
        idle = self._idle if self.runtime.parallel_batches is None else 0
        longest = math.inf if self.turns is None else self.turns.longest()
        batch = self._scheduler.schedule(perf_counter(), idle, degraded=degraded, longest=longest)
        if batch is None and self._scheduler.background.waiting and self._has_room():
            batch = self._scheduler.schedule_background(perf_counter())
        if batch is None and self.turns is not None:
            self.turns.rest()
        if batch is not None and self._idle and self._scheduler.waiting:
            self._state.notify()
        return batch

    def _has_room(self) -> bool:
        """Return whether a batch of copies slows no other down: not on a device that runs one."""
        return self.runtime.parallel_batches is None or self.running == 1

    def _run(self, batch: Batch) -> Ran:
        """Run one batch, with several models in a turn of this one, and count it."""
        if self.turns is None:
            ran = run_batch(batch, self.runtime, self._pool)
        else:
            with self.turns.turn():
                ran = run_batch(batch, self.runtime, self._pool)
        if self.records:
            batch.record(ran.started, ran.ended)
        if ran.decision is not None:
            stage = None if batch.whole_network else batch.stage
            self._metrics.batch(stage, len(batch.requests), ran.seconds)
        return ran

    def _break(self, error: BaseException) -> None:
        """Stop all threads, and notify the event loop of the first reason."""
        reason = f"the engine broke ({type(error).__name__}: {error}); this server has to restart"
        with self._state:
            first, self.broken = self.broken is None, self.broken or reason
            self._state.notify_all()
        if first:
            self._post(self.on_break, reason)
        log.critical("a stage thread broke, the server ends", exc_info=error)

    def _post(self, call: Callable[..., None], *arguments: object) -> bool:
        """Call on the event loop. False: it is closed, and no answer is awaited any more."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return False
        return True

    def _tell(self, leaving: list[Leaving]) -> None:
        for each in leaving:
            self.leave(each)
