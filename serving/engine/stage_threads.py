"""The threads that run stages. Each, again and again: what became of its batch, the next batch.

A batch's survivors thus go on without a round trip over the event loop, which is told only of
requests that leave. One lock guards the scheduler and the requests in its hands. The threads
are daemons and start with the first request: an engine that is never used has none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from time import perf_counter
from typing import Literal

from serving.engine.batch import Batch, Decision
from serving.engine.overload import OverloadDetector
from serving.engine.request import Request
from serving.engine.scheduler import Scheduler
from serving.observe.metrics import Metrics
from serving.runtime.base import Slots
from serving.runtime.cpu import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leaving:
    """Requests that are in no queue and no batch any more.

    `finished`: at an exit, or ended before; `expired`: no time for another stage; `failed`: with
    its batch.
    `since` is when that was known, by `time.perf_counter`.
    """

    requests: list[Request]
    how: Literal["finished", "expired", "failed"]
    since: float


@dataclass(frozen=True, slots=True)
class _Ran:
    """A batch that was run, and what came of it; no verdict: a stage failed."""

    batch: Batch
    decision: Decision | None
    ended: float
    seconds: float


class StageThreads:
    """Runs what the scheduler says, up to `threads` batches at once.

    Args:
        runtime: the stages.
        pool: where their tensors stand.
        scheduler: who is next.
        overload: whether requests are to leave at their next exit.
        metrics: told of every batch.
        threads: how many.
        leave: called on the event loop with those who leave.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: Slots,
        scheduler: Scheduler,
        overload: OverloadDetector,
        metrics: Metrics,
        threads: int,
        leave: Callable[[Leaving], None],
    ) -> None:
        self.runtime = runtime
        self._pool = pool
        self._scheduler = scheduler
        self._high_water = overload
        self._metrics = metrics
        self._count = threads
        self._leave = leave
        self._threads: list[Thread] = []
        self._state = Condition()
        self._idle = 0
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> int:
        """Threads that run a batch."""
        return len(self._threads) - self._idle

    def add(self, requests: Sequence[Request]) -> None:
        """Let new requests wait; on the event loop. `wake` starts them."""
        if not self._threads:
            self._start()
        self._loop = asyncio.get_running_loop()
        with self._state:
            for request in requests:
                self._scheduler.add(request)

    def seconds_to_first_stage(self) -> float:
        """Seconds, as predicted, until a request with a deadline would come to the first stage."""
        with self._state:
            return self._scheduler.seconds_to_first_stage() / self._count

    def wake(self) -> None:
        """Let idle threads see what waits."""
        if self._idle:
            with self._state:
                self._state.notify(self._scheduler.waiting)

    def drop(self, request: Request) -> bool:
        """Give a request up. True: it waited, and is out. False: it will be among the leaving."""
        with self._state:
            return self._scheduler.drop(request)

    def close(self) -> None:
        """Stop the threads; nobody may be under way."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        self._idle = 0
        self._threads = [
            Thread(target=self._work, name=f"stage-{number}", daemon=True)
            for number in range(self._count)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        ran: _Ran | None = None
        while True:
            with self._state:
                leaving = self._settle(ran)
                batch = self._next()
                if batch is None and not leaving:
                    if self._closed:
                        return
                    self._idle += 1
                    self._state.wait()
                    self._idle -= 1
            if leaving and not self._post(leaving):
                return
            ran = None if batch is None else self._run(batch)

    def _settle(self, ran: _Ran | None) -> list[Leaving]:
        """Record what became of a batch; who leaves, and whose time has run out meanwhile."""
        leaving, now = [], perf_counter() if ran is None else ran.ended
        if ran is not None:
            if ran.decision is None:
                leaving.append(Leaving(self._scheduler.failed(ran.batch), "failed", now))
            elif left := self._scheduler.update(ran.batch, ran.decision, ran.seconds):
                leaving.append(Leaving(left, "finished", now))
        if expired := self._scheduler.expired(now):
            leaving.append(Leaving(expired, "expired", now))
        return leaving

    def _next(self) -> Batch | None:
        degraded = self._high_water.update(self._scheduler.backlog)
        idle = 0 if self.runtime.on_device else self._idle  # a device is one, whoever waits for it
        batch = self._scheduler.schedule(perf_counter(), idle, degraded=degraded)
        if batch is not None and self._idle and self._scheduler.waiting:
            self._state.notify()
        return batch

    def _run(self, batch: Batch) -> _Ran:
        """One batch through one stage, from its slots to its slots; or through all of them."""
        started = perf_counter()
        stage, slots = batch.stage, batch.slots
        decision = None
        try:
            inputs = self._pool.gather(stage, slots)
            if batch.whole_network:
                output = self.runtime.run_whole(inputs)
            else:
                output = self.runtime.run(stage, inputs, head=batch.head)
            decision = batch.decide(output.confidence, output.probabilities)
            if rows := decision.continuing:
                self._pool.scatter(stage, [slots[row] for row in rows], rows, output.features)
        except Exception:
            decision = None  # whatever of it there was: survivors would read what is not theirs
            log.exception(
                "%s failed", "all stages" if batch.whole_network else f"stage {stage + 1}"
            )
        ended = perf_counter()
        if decision is not None:
            ran = None if batch.whole_network else stage
            self._metrics.batch(ran, len(slots), ended - started)
        return _Ran(batch, decision, ended, ended - started)

    def _post(self, leaving: list[Leaving]) -> bool:
        """Tell the event loop; False: it is closed, and nobody waits for answers any more."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._tell, leaving)
        except RuntimeError:
            return False
        return True

    def _tell(self, leaving: list[Leaving]) -> None:
        for each in leaving:
            self._leave(each)
