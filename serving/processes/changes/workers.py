"""Changes of the models in all workers, decided by the supervisor.

A change has two steps: every worker loads beside what it serves, and only if all of them can, each
one serves it. Before the first step, another process can make the graphs that all workers load.
The call that asked for it is answered when all do. A worker that dies in between does not count,
unless all do: a version that no worker has loaded is not served. Its successor starts with the
catalog of that moment, and follows before the next change begins.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

from offramp.bundle.errors import BundleError
from serving.errors import ServingError
from serving.models.catalog import Catalog, Entry
from serving.models.messages import (
    Abort,
    Ask,
    Commit,
    FromWorker,
    Making,
    Prepare,
    Prepared,
    Reply,
    Restart,
    ToWorker,
)
from serving.models.planner import Planner, Wish, refusal
from serving.processes.changes.change import Change, Job, Maker

ENDED = "each worker that loaded it ended"
log = logging.getLogger(__name__)


class WorkerChanges:
    """Decides on changes. It holds no process: `take` gives the messages to send.

    Args:
        planner: Plans changes.
        catalog: The catalog to start with.
        maker: Makes the graphs of a version, of which `made` is told. `None`: each worker does.

    Attributes:
        catalog: The catalog that all workers serve, or follow to.
    """

    def __init__(self, planner: Planner, catalog: Catalog, maker: Maker | None = None) -> None:
        self._planner = planner
        self.catalog = catalog
        self._maker = maker
        self._serving: dict[int, int] = {}  # number of the catalog of each worker that is ready
        self._late: set[int] = set()  # workers that load the catalog of the others
        self._jobs: deque[Job] = deque()
        self._change: Change | None = None
        self._messages: list[tuple[int, ToWorker]] = []

    def take(self) -> Iterator[tuple[int, ToWorker]]:
        """Return the messages to send, each with the number of its worker, once."""
        messages, self._messages = self._messages, []
        return iter(messages)

    def ready(self, worker: int, number: int) -> None:
        """Note that a worker serves, with the catalog of this number."""
        self._serving[worker] = number
        if self._change is None:
            self._bring_up(worker)
            self._go_on()

    def ended(self, worker: int) -> None:
        """Note that a worker ended."""
        self._serving.pop(worker, None)
        self._late.discard(worker)
        if self._change is not None:
            self._change.forget(worker)
        for job in self._jobs:
            job.forget(worker)
        self._go_on()

    def receive(self, worker: int, message: FromWorker) -> None:
        """Take a message of a worker."""
        change = self._change
        if isinstance(message, Ask):
            self._jobs.append(Job(deque([message.wish]), (worker, message.number)))
        elif change is not None and message.number == change.catalog.number:
            change.note(worker, message)
        elif isinstance(message, Prepared) and worker in self._late:
            self._late.discard(worker)
            self._end_bring_up(worker, message)
        self._go_on()

    def reload(self) -> None:
        """Load what changed in the folder, as SIGHUP asks."""
        try:
            wishes = self._planner.changed(self.catalog)
        except BundleError as error:
            log.warning("the models were not reloaded: %s", error)
            return
        log.info("reloading: %s", ", ".join(map(str, wishes)) or "nothing changed")
        self._jobs.append(Job(deque(wishes)))
        self._go_on()

    def _go_on(self) -> None:
        """Go on with the change if no worker is waited for, then begin the next ones."""
        while True:
            if (change := self._change) is not None:
                if change.waiting or change.making:
                    return
                self._settle(change)
                continue
            if self._jobs and not self._jobs[0].wishes:
                self._reply(self._jobs.popleft())
            elif self._jobs and self._serving and not self._late:
                self._begin(self._jobs[0])
            else:
                return

    def _reply(self, job: Job) -> None:
        """Answer the call that waits for a job, if there is one."""
        if job.asked is not None:
            worker, number = job.asked
            self._send(worker, Reply(number, job.error))

    def _begin(self, job: Job) -> None:
        """Begin the next wish of a job."""
        wish = job.wishes.popleft()
        try:
            catalog = self._planner.propose(self.catalog, wish)
        except Exception as error:  # noqa: BLE001 (becomes the reply)
            self._fail(job, wish, error)
            return
        change = self._change = Change(job, wish, catalog, set())
        loaded = set(self.catalog.entries())
        new = next((each for each in catalog.entries() if each not in loaded), None)
        if new is not None and self._begin_making(new, loaded):
            change.making = True
        else:
            self._prepare(change, None)

    def _begin_making(self, entry: Entry, loaded: Collection[Entry]) -> bool:
        """Begin to make the graphs of an entry, if there is a maker. Return whether it did."""
        if self._maker is None:
            return False
        try:
            self._maker.begin(entry, loaded)
        except OSError as error:
            log.warning("each worker makes the graphs itself: %s", error)
            return False
        for worker in self._serving:
            self._send(worker, Making(entry.name, entry.version))
        return True

    def made(self, graphs: Path | None, error: str | None) -> None:
        """Note that the maker is done.

        Args:
            graphs: File of the graphs. `None`: each worker makes or has them.
            error: Why the version cannot be loaded, if it cannot.
        """
        change = self._change
        assert change is not None
        change.making = False
        if error is None:
            self._prepare(change, graphs)
        else:
            change.error = ServingError(error)
        self._go_on()

    def _prepare(self, change: Change, graphs: Path | None) -> None:
        """Let the workers prepare a change. One that serves an older catalog follows later."""
        now = self.catalog.number
        change.waiting = {worker for worker, number in self._serving.items() if number == now}
        for worker in sorted(change.waiting):
            self._send(worker, Prepare(change.catalog, graphs))

    def _settle(self, change: Change) -> None:
        """Let all workers commit a change that they prepared, or end it."""
        if not (change.committing or change.prepared):
            change.error = change.error or ServingError(ENDED)
        if change.error is None and not change.committing:
            change.committing, change.waiting = True, set(change.prepared)
            self.catalog = change.catalog
            for worker in change.prepared:
                self._advance(worker, Commit(self.catalog))
            return
        self._change = None
        if self._maker is not None:
            self._maker.drop()
        if change.error is not None:
            self._fail(change.job, change.wish, change.error)
        else:
            log.info("%s: done", change.wish)
        for worker in self._serving:
            self._bring_up(worker)

    def _fail(self, job: Job, wish: Wish, error: Exception) -> None:
        """Let all workers drop what they prepared, and note the reason."""
        before, job.error = self.catalog.number, refusal(wish, error)
        log.warning("%s", job.error)
        self.catalog = self._planner.noting(self.catalog, wish, error)
        for worker, number in self._serving.items():
            if number == before:
                self._advance(worker, Abort(self.catalog))

    def _bring_up(self, worker: int) -> None:
        """Let a worker that serves an older catalog load this one."""
        if self._serving[worker] != self.catalog.number and worker not in self._late:
            self._late.add(worker)
            self._send(worker, Prepare(self.catalog))

    def _end_bring_up(self, worker: int, message: Prepared) -> None:
        if message.error is not None:
            log.error("worker %d cannot load what the others serve: %s", worker, message.error)
            self._send(worker, Restart())
        elif message.number == self.catalog.number:
            self._advance(worker, Commit(self.catalog))
        else:
            self._bring_up(worker)

    def _advance(self, worker: int, message: Commit | Abort) -> None:
        """Send a message after which a worker has the catalog of now."""
        self._send(worker, message)
        self._serving[worker] = self.catalog.number

    def _send(self, worker: int, message: ToWorker) -> None:
        self._messages.append((worker, message))
