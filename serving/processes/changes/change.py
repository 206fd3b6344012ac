"""A change of the models in all workers, and what asked for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from serving.errors import ServingError
from serving.models.catalog import Catalog, Entry
from serving.models.messages import FromWorker, Prepared
from serving.models.planner import Wish


class Maker(Protocol):
    """Makes the graphs of one version after another, in a process of its own."""

    def begin(self, entry: Entry, loaded: Collection[Entry]) -> None:
        """Begin to make the graphs of a version, if none of the loaded ones has them.

        Raises:
            OSError: There is no process or memory for it, so that each worker makes its own.
        """

    def drop(self) -> None:
        """Stop, or drop what was made."""


@dataclass(slots=True)
class Job:
    """Wishes of one call, or of one SIGHUP.

    Attributes:
        wishes: Those that are not made yet.
        asked: Worker and number of the call that waits for the end. `None`: nothing waits.
        error: The error of the last one.
    """

    wishes: deque[Wish]
    asked: tuple[int, int] | None = None
    error: ServingError | None = None

    def forget(self, worker: int) -> None:
        """Answer no call of a worker that ended. Its successor numbers its own calls alike."""
        if self.asked is not None and self.asked[0] == worker:
            self.asked = None


@dataclass(slots=True)
class Change:
    """The change that workers make.

    Attributes:
        waiting: Workers that have not prepared it, or in its second step not committed it.
        prepared: Workers that have prepared it.
        committing: It is in its second step.
        making: Its graphs are being made, before its first step.
    """

    job: Job
    wish: Wish
    catalog: Catalog
    waiting: set[int]
    prepared: set[int] = field(default_factory=set)
    committing: bool = False
    making: bool = False
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
