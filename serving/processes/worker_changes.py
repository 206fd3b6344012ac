"""Changes of the models in all workers, decided by the supervisor.

A change has two steps: every worker loads beside what it serves, and only if all of them can, each
one serves it. The call that asked for it is answered when all do. A worker that dies in between
does not count. Its successor starts with the catalog of that moment, and follows before the next
change begins.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from offramp.bundle.errors import BundleError
from serving.errors import ServingError
from serving.models.catalog import Catalog
from serving.models.messages import (
    Abort,
    Ask,
    Commit,
    FromWorker,
    Prepare,
    Prepared,
    Reply,
    Restart,
    ToWorker,
)
from serving.models.planner import Planner, Wish, refusal

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Job:
    """Wishes of one call, or of one SIGHUP.

    Attributes:
        wishes: Those that are not made yet.
        asked: Worker and number of the call that waits for the end. `None`: nothing waits.
        error: The error of the last one.
    """

    wishes: deque[Wish]
    asked: tuple[int, int] | None = None
    error: ServingError | None = None


@dataclass(slots=True)
class _Change:
    """The change that workers make.

    Attributes:
        waiting: Workers that have not prepared it, or in its second step not committed it.
        prepared: Workers that have prepared it.
        committing: It is in its second step.
    """

    job: _Job
    wish: Wish
    catalog: Catalog
    waiting: set[int]
    prepared: set[int] = field(default_factory=set)
    committing: bool = False
    error: Exception | None = None

    def note(self, worker: int, message: FromWorker) -> None:
        """Note that a worker has made its step, or could not."""
        self.waiting.discard(worker)
        if isinstance(message, Prepared):
            self.prepared.add(worker)
            self.error = ServingError(message.error) if message.error else self.error

    def forget(self, worker: int) -> None:
        """Wait no more for a worker that ended."""
        self.waiting.discard(worker)
        self.prepared.discard(worker)


class WorkerChanges:
    """Decides on changes. It holds no process: `take` gives the messages to send.

    Args:
        planner: Plans changes.
        catalog: The catalog to start with.

    Attributes:
        catalog: The catalog that all workers serve, or follow to.
    """

    def __init__(self, planner: Planner, catalog: Catalog) -> None:
        self._planner = planner
        self.catalog = catalog
        self._serving: dict[int, int] = {}  # number of the catalog of each worker that is ready
        self._late: set[int] = set()  # workers that load the catalog of the others
        self._jobs: deque[_Job] = deque()
        self._change: _Change | None = None
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

    def ended(self, worker: int) -> None:
        """Note that a worker ended."""
        self._serving.pop(worker, None)
        self._late.discard(worker)
        if self._change is not None:
            self._change.forget(worker)
        self._go_on()

    def receive(self, worker: int, message: FromWorker) -> None:
        """Take a message of a worker."""
        change = self._change
        if isinstance(message, Ask):
            self._jobs.append(_Job(deque([message.wish]), (worker, message.number)))
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
        self._jobs.append(_Job(deque(wishes)))
        self._go_on()

    def _go_on(self) -> None:
        """Go on with the change if no worker is waited for, then begin the next ones."""
        while True:
            if (change := self._change) is not None:
                if change.waiting:
                    return
                self._settle(change)
                continue
            if self._jobs and not self._jobs[0].wishes:
                self._reply(self._jobs.popleft())
            elif self._jobs and not self._late:
                self._begin(self._jobs[0])
            else:
                return

    def _reply(self, job: _Job) -> None:
        """Answer the call that waits for a job, if there is one."""
        if job.asked is not None:
            worker, number = job.asked
            self._send(worker, Reply(number, job.error))

    def _begin(self, job: _Job) -> None:
        """Begin the next wish of a job."""
        wish = job.wishes.popleft()
        try:
            catalog = self._planner.propose(self.catalog, wish)
        except Exception as error:  # noqa: BLE001 (becomes the reply)
            self._fail(job, wish, error)
            return
        self._change = _Change(job, wish, catalog, set(self._serving))
        for worker in self._serving:
            self._send(worker, Prepare(catalog))

    def _settle(self, change: _Change) -> None:
        """Let all workers commit a change that they prepared, or end it."""
        if change.error is None and not change.committing:
            change.committing, change.waiting = True, set(change.prepared)
            self.catalog = change.catalog
            for worker in change.prepared:
                self._advance(worker, Commit(self.catalog))
            return
        self._change = None
        if change.error is not None:
            self._fail(change.job, change.wish, change.error)
        else:
            log.info("%s: done", change.wish)
        for worker in self._serving:
            self._bring_up(worker)

    def _fail(self, job: _Job, wish: Wish, error: Exception) -> None:
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
