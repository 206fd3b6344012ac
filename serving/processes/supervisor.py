"""Several worker processes: started, watched, replaced, ended.

A worker sends on its pipe that it is ready, or the reason why it ends. A worker that is killed, or
ends after it was ready, is replaced. If one ends by itself before it is ready, its successor would
fail in the same way: the server ends, unless other workers serve. In that case they serve on, and
the worker is started again after a time, which doubles with each failure.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic

from serving.errors import WorkerError
from serving.models.messages import Restart
from serving.processes.changes.graph_maker import GraphMaker
from serving.processes.changes.workers import WorkerChanges
from serving.processes.signal_socket import signal_socket

Job = Callable[[int, Connection], None]
KILLED_AT_START = 3  # workers in a row that are replaced at once
RETRY_SECONDS = 1.0  # to the next attempt after a first failure
MAX_RETRY_SECONDS = 60.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Worker:
    number: int
    process: SpawnProcess
    news: Connection
    ready: bool = False
    catalog: int = 0  # number of that which it starts with
    reason: str | None = None

    @property
    def code(self) -> int:
        """The exit code of its process, which has ended."""
        assert self.process.exitcode is not None
        return self.process.exitcode

    def send(self, message: object) -> None:
        with suppress(OSError):  # it has ended, which is the next event
            self.news.send(message)


class Supervisor:
    """Keeps a number of workers running.

    Args:
        job: Work of a worker, given its number and the pipe on which it sends `None` when it is
            ready, or the reason why it ends. It can be pickled.
        workers: Number of workers.
        patience: Seconds that workers have to end after SIGTERM.
        bury: Called with the number of each worker that is dead.
        retry: Seconds to the next attempt after a worker failed at its start and others serve.
        changes: Decides on changes of the models. Each worker gets its catalog first, and SIGHUP
            loads what changed. `None`: the workers serve one model for good.
        maker: Makes the graphs of a version for all workers. `None`: each of them does.
    """

    def __init__(
        self,
        job: Job,
        workers: int,
        patience: float,
        bury: Callable[[int], None],
        retry: float = RETRY_SECONDS,
        changes: WorkerChanges | None = None,
        maker: GraphMaker | None = None,
    ) -> None:
        self._job = job
        self._count = workers
        self._patience = patience
        self._bury = bury
        self._workers: dict[int, _Worker] = {}
        self._killed_at_start = 0
        self._retry = retry
        self._failures: Counter[int] = Counter()  # in a row, by worker
        self._due: dict[int, float] = {}  # workers to start, with the time of each
        self._changes = changes
        self._maker = maker

    def run(self, ready: Callable[[], None]) -> None:
        """Work until SIGTERM or SIGINT. Call `ready` once, when all workers are ready.

        Raises:
            WorkerError: A worker cannot start, and no other serves.
            OSError: A process cannot be started, and no other serves.
            KeyboardInterrupt: SIGINT ended the server, after its workers.
        """
        with signal_socket(SIGNALS if self._changes is None else (*SIGNALS, signal.SIGHUP)) as stop:
            try:
                for number in range(self._count):
                    self._start(number)
                self._watch(stop, ready)
            finally:
                self._end()

    def _start(self, number: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        news, writer = spawn.Pipe(duplex=self._changes is not None)
        process = spawn.Process(target=self._job, args=(number, writer), name=f"worker {number}")
        process.start()
        writer.close()
        worker = self._workers[number] = _Worker(number, process, news)
        if self._changes is not None:
            worker.catalog = self._changes.catalog.number
            worker.send(self._changes.catalog)

    def _watch(self, stop: socket.socket, ready: Callable[[], None]) -> None:
        called = False
        while True:
            workers = list(self._workers.values())
            events = self._events(stop, workers)
            if stop in events and self._ends(stop.recv(1)[0]):
                return
            if self._changes is not None and self._maker is not None and self._maker.news in events:
                self._changes.made(*self._maker.result())
            for worker in workers:
                if worker.news in events:
                    self._hear(worker)
                if worker.process.sentinel in events:
                    self._replace(worker)
            self._start_due()
            self._send_changes()
            if not called and sum(w.ready for w in self._workers.values()) == self._count:
                called = True
                ready()

    def _events(self, stop: socket.socket, workers: Sequence[_Worker]) -> Sequence[object]:
        """Wait for a signal, news or ends of workers, or the time to start one."""
        ends = [worker.process.sentinel for worker in workers]
        news = [each.news for each in workers if not each.ready or self._changes is not None]
        if self._maker is not None and self._maker.news is not None:
            news.append(self._maker.news)
        seconds = max(0.0, min(self._due.values()) - monotonic()) if self._due else None
        return wait([stop, *ends, *news], seconds)

    def _ends(self, number: int) -> bool:
        """Return whether the server ends at a signal. SIGHUP loads what changed instead."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGHUP and self._changes is not None:
            self._changes.reload()
            return False
        return True

    def _send_changes(self) -> None:
        for number, message in self._changes.take() if self._changes is not None else ():
            if (worker := self._workers.get(number)) is None:
                continue
            if isinstance(message, Restart):
                worker.process.terminate()
            else:
                worker.send(message)

    def _hear(self, worker: _Worker) -> None:
        try:
            reason = worker.news.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()  # its end is the next event
            return
        if reason is None:
            self._note_ready(worker)
        elif not isinstance(reason, str):
            assert self._changes is not None
            self._changes.receive(worker.number, reason)
        elif not self._serves():
            raise WorkerError(reason)
        else:
            worker.reason = reason  # its end is the next event

    def _note_ready(self, worker: _Worker) -> None:
        worker.ready = True
        self._killed_at_start = self._failures[worker.number] = 0
        if self._changes is not None:
            self._changes.ready(worker.number, worker.catalog)

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        how = _end_of(worker)
        worker.news.close()
        self._bury(worker.number)
        del self._workers[worker.number]
        if self._changes is not None:
            self._changes.ended(worker.number)
        if not worker.ready:
            self._killed_at_start += 1
            if worker.code >= 0 or self._killed_at_start > KILLED_AT_START:
                self._postpone(worker.number, f"{how} before it was ready")
                return
        log.error("worker %d %s and is replaced", worker.number, how)
        self._due[worker.number] = monotonic()

    def _serves(self) -> bool:
        return any(worker.ready for worker in self._workers.values())

    def _postpone(self, number: int, how: str) -> None:
        """Start a worker later if others serve. If not, the server ends."""
        if not self._serves():
            raise WorkerError(f"worker {number} {how}")
        seconds = min(MAX_RETRY_SECONDS, self._retry * 2.0 ** min(self._failures[number], 10))
        self._failures[number] += 1
        self._due[number] = monotonic() + seconds
        text = "worker %d %s: the other workers serve on, and it is started again in %g s"
        log.error(text, number, how, seconds)

    def _start_due(self) -> None:
        for number in [number for number, time in self._due.items() if time <= monotonic()]:
            del self._due[number]
            try:
                self._start(number)
            except OSError as error:
                self._postpone(number, f"cannot be started ({error.strerror})")

    def _end(self) -> None:
        if self._maker is not None:
            self._maker.drop()
        for worker in self._workers.values():
            worker.process.terminate()
            worker.news.close()  # no change is made any more, so that no call waits for one
        deadline = monotonic() + self._patience
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - monotonic()))
            if worker.process.is_alive():
                log.error("worker %d did not end in time and is killed", worker.number)
                worker.process.kill()
                worker.process.join()


def _end_of(worker: _Worker) -> str:
    """Describe how a worker ended, with the reason that it sent."""
    if worker.code < 0:
        return f"was killed by {signal.Signals(-worker.code).name}"
    reason = worker.reason
    with suppress(EOFError, OSError):
        reason = worker.news.recv() if worker.news.poll() else reason
    return f"ended with {worker.code}" + (f" ({reason})" if reason else "")
