"""Several worker processes: started, watched, replaced, ended.

A worker sends on its pipe that it is ready, or the reason why it ends. If one ends by itself
before it is ready, the server ends, because its successor would fail in the same way. A worker
that is killed, or ends after it was ready, is replaced.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic

from serving.errors import WorkerError

Job = Callable[[int, Connection], None]
KILLED_AT_START = 3  # workers in a row: one more ends the server
SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Worker:
    number: int
    process: SpawnProcess
    news: Connection
    ready: bool = False


class Supervisor:
    """Keeps a number of workers running.

    Args:
        job: Work of a worker, given its number and the pipe on which it sends `None` when it is
            ready, or the reason why it ends. It can be pickled.
        workers: Number of workers.
        patience: Seconds that workers have to end after SIGTERM.
        bury: Called with the number of each worker that is dead.
    """

    def __init__(
        self, job: Job, workers: int, patience: float, bury: Callable[[int], None]
    ) -> None:
        self._job = job
        self._count = workers
        self._patience = patience
        self._bury = bury
        self._workers: dict[int, _Worker] = {}
        self._killed_at_start = 0

    def run(self, ready: Callable[[], None]) -> None:
        """Work until SIGTERM or SIGINT. Call `ready` once, when all workers are ready.

        Raises:
            WorkerError: a worker cannot start; the others were ended in order.
            KeyboardInterrupt: SIGINT ended the server, after its workers.
        """
        with _signals() as stop:
            try:
                for number in range(self._count):
                    self._start(number)
                self._watch(stop, ready)
            finally:
                self._end()

    def _start(self, number: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        news, writer = spawn.Pipe(duplex=False)
        process = spawn.Process(target=self._job, args=(number, writer), name=f"worker {number}")
        process.start()
        writer.close()
        self._workers[number] = _Worker(number, process, news)

    def _watch(self, stop: socket.socket, ready: Callable[[], None]) -> None:
        called = False
        while True:
            workers = list(self._workers.values())
            ends = [worker.process.sentinel for worker in workers]
            events = wait([stop, *ends, *(w.news for w in workers if not w.ready)])
            if stop in events:
                if stop.recv(1)[0] == signal.SIGINT:
                    raise KeyboardInterrupt
                return
            for worker in workers:
                if worker.news in events:
                    self._hear(worker)
                if worker.process.sentinel in events:
                    self._replace(worker)
            if not called and all(worker.ready for worker in self._workers.values()):
                called = True
                ready()

    def _hear(self, worker: _Worker) -> None:
        try:
            reason = worker.news.recv()
        except EOFError:
            worker.process.join()  # its end is the next event
            return
        if reason is not None:
            raise WorkerError(reason)
        worker.ready = True
        self._killed_at_start = 0

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        how = _end_of(worker)
        worker.news.close()
        self._bury(worker.number)
        code = worker.process.exitcode
        assert code is not None
        if not worker.ready:
            self._killed_at_start += 1
            if code >= 0 or self._killed_at_start > KILLED_AT_START:
                raise WorkerError(f"worker {worker.number} {how} before it was ready")
        log.error("worker %d %s and is replaced", worker.number, how)
        self._start(worker.number)

    def _end(self) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        deadline = monotonic() + self._patience
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - monotonic()))
            if worker.process.is_alive():
                log.error("worker %d did not end in time and is killed", worker.number)
                worker.process.kill()
                worker.process.join()


def _end_of(worker: _Worker) -> str:
    """Describe how a worker ended, with the reason that it sent."""
    code = worker.process.exitcode
    assert code is not None
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    reason = None
    with suppress(EOFError, OSError):
        reason = worker.news.recv() if worker.news.poll() else None
    return f"ended with {code} ({reason})" if reason else f"ended with {code}"


def end_with_parent() -> None:
    """End this worker as at SIGTERM if its supervisor is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Yield a socket that becomes readable once a signal asks the server to end."""
    reader, writer = socket.socketpair()
    writer.settimeout(0)

    def ask(number: int, _: object) -> None:
        with suppress(BlockingIOError):
            writer.send(bytes([number]))

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        with reader, writer:
            yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
