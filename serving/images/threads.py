"""Threads that decode images: the cheapest first, and only in so much memory at once.

A few images that are dear to decode must not delay all others. One thread is kept free of them,
and after each the next one can have to wait (`costly_wait.py`).

The event loop owns the queue. A thread gets one job at a time. The threads are daemons, so that the
end of the process does not wait for an image that is being decoded.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.priorities import lower_priority

Pixels = NDArray[np.uint8]
Run = Callable[[], Pixels]


@dataclass(slots=True, order=True)
class Job:
    """An image on its way through the threads. The order is that of the queue.

    Attributes:
        dear: It is of a call that is dear to decode.
        work: Time to decode it, where a pixel of a PNG is 1.
        number: Position in the order of arrival.
        memory: Bytes that decoding it takes.
        run: Decodes it.
        future: Its result.
        running: A thread has taken it.
    """

    dear: bool
    work: float
    number: int
    memory: int = field(compare=False)
    run: Run = field(compare=False)
    future: asyncio.Future[Pixels] = field(compare=False)
    running: bool = field(default=False, compare=False)
    _ended: list[Callable[[], None]] = field(default_factory=list, compare=False)

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call a function, on the event loop, when no thread runs this job any more."""
        self._ended.append(callback)

    def end(self) -> None:
        """Note that no thread runs this job any more."""
        self.running = False
        for callback in self._ended:
            callback()


class DecodeThreads:
    """A queue of images and the threads that decode them. Only an event loop calls it.

    Args:
        threads: Number of threads. Each starts with its first job.
        max_memory: Most bytes of the images that are decoded at once. A larger one runs alone.
        rest: Returns the seconds for which no dear job starts, from the seconds that the last one
            took and the work that is left.
        trim: Called on a thread after each dear job. Its memory would else stay with that thread.

    Attributes:
        work: Work of all images that are queued or being decoded.
    """

    def __init__(
        self,
        threads: int,
        max_memory: int,
        rest: Callable[[float, float], float] = lambda _seconds, _work: 0.0,
        trim: Callable[[], None] = lambda: None,
    ) -> None:
        self._idle = threads
        self._threads = threads
        self._started = 0
        self._max_memory = max_memory
        self._memory = 0
        self._rest = rest
        self._trim = trim
        self._idle_for_dear = max(1, threads - 1)
        self._resting: asyncio.TimerHandle | None = None
        self._draining = self._closed = False
        self._queue: list[Job] = []
        self._numbers = count()
        self._jobs: SimpleQueue[tuple[Job, asyncio.AbstractEventLoop] | None] = SimpleQueue()
        self.work = 0.0

    def start(self, run: Run, work: float, memory: int, *, dear: bool = False) -> Job:
        """Queue an image. After `close` its future is cancelled.

        Args:
            run: Decodes it, on a thread.
            work: Time to decode it.
            memory: Bytes that decoding it takes.
            dear: It is of a call that is dear to decode.
        """
        future: asyncio.Future[Pixels] = asyncio.get_running_loop().create_future()
        job = Job(dear, work, next(self._numbers), memory, run, future)
        if self._closed:
            future.cancel()
            return job
        self.work += work
        heapq.heappush(self._queue, job)
        self._feed()
        return job

    def cancel(self, job: Job) -> bool:
        """Cancel a job that has not ended. Return whether a thread still runs it."""
        if not job.running and not job.future.done():
            self._queue.remove(job)
            heapq.heapify(self._queue)
            self.work -= job.work
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # an error that nothing waits for is not one for the log
        job.future.cancel()
        return job.running

    def drain(self) -> None:
        """Let no image wait for a rest any more, because the server stops."""
        self._draining = True
        self._wake()

    def close(self) -> None:
        """Let the threads end after what they run. What is queued is not decoded."""
        self._closed = True
        self._end_rest()
        for job in self._queue:
            job.future.cancel()
        self._queue.clear()
        for _ in range(self._started):
            self._jobs.put(None)

    def _feed(self) -> None:
        while self._idle and self._queue:
            job = self._queue[0]
            if not self._can_start(job):
                return
            heapq.heappop(self._queue)
            job.running = True
            self._idle -= 1
            self._idle_for_dear -= job.dear
            self._memory += job.memory
            self._jobs.put((job, asyncio.get_running_loop()))
            if self._threads - self._idle > self._started:
                self._start_thread()

    def _can_start(self, job: Job) -> bool:
        """Return whether there is memory for a job, and of a dear one whether its turn has come."""
        if self._memory and self._memory + job.memory > self._max_memory:
            return False
        return not job.dear or (self._resting is None and self._idle_for_dear > 0)

    def _start_thread(self) -> None:
        self._started += 1
        arguments = (self._jobs, self._end, self._trim)
        threading.Thread(target=_work, args=arguments, daemon=True).start()

    def _begin_rest(self, seconds: float) -> None:
        """Start no dear job for some seconds, or for longer if a rest is under way that is."""
        if seconds <= 0 or self._draining or self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._resting is not None and self._resting.when() >= loop.time() + seconds:
            return
        self._end_rest()
        self._resting = loop.call_later(seconds, self._wake)

    def _end_rest(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def _wake(self) -> None:
        self._end_rest()
        self._feed()

    def _end(
        self, job: Job, seconds: float, result: Pixels | None, error: Exception | None
    ) -> None:
        self._idle += 1
        self._memory -= job.memory
        self.work -= job.work
        if job.dear:
            self._idle_for_dear += 1
            self._begin_rest(self._rest(seconds, self.work))
        job.end()
        if not job.future.done():
            _resolve(job, result, error)
        self._feed()


def _resolve(job: Job, result: Pixels | None, error: Exception | None) -> None:
    if error is not None:
        job.future.set_exception(error)
    else:
        assert result is not None
        job.future.set_result(result)


def _work(
    jobs: SimpleQueue[tuple[Job, asyncio.AbstractEventLoop] | None],
    end: Callable[[Job, float, Pixels | None, Exception | None], Any],
    trim: Callable[[], None],
) -> None:
    lower_priority()
    while (taken := jobs.get()) is not None:
        job, loop = taken
        result, error = None, None
        began = perf_counter()
        try:
            result = job.run()
        except Exception as failure:  # noqa: BLE001 (becomes the result of the job)
            error = failure
        seconds = perf_counter() - began
        try:
            loop.call_soon_threadsafe(end, job, seconds, result, error)
        except RuntimeError:  # the loop is closed: the process ends
            return
        if job.dear:
            trim()
