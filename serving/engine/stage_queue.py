"""Who waits for a stage: first in, first out, and by deadline. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush, nsmallest
from itertools import count

from serving.engine.request import Request


class StageQueue:
    """The requests that wait for one stage, in the order in which they came.

    Attributes:
        hurrying: how many of them have a deadline.
    """

    def __init__(self) -> None:
        # A dictionary as an ordered set: first in, first out, and quick to drop from.
        self._queue: dict[Request, None] = {}
        self._deadlines: list[tuple[float, int, Request]] = []
        self._ticket = count()
        self.hurrying = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def __iter__(self) -> Iterator[Request]:
        """First come, first."""
        return iter(self._queue)

    def add(self, request: Request) -> None:
        """Let a request wait."""
        self._queue[request] = None
        if request.policy.deadline is not None:
            self.hurrying += 1
            heappush(self._deadlines, (request.due, next(self._ticket), request))

    def remove(self, request: Request) -> bool:
        """Take a request out; False: it does not wait here."""
        if request not in self._queue:
            return False
        del self._queue[request]
        self.hurrying -= request.policy.deadline is not None
        if not self.hurrying:
            self._deadlines.clear()  # nobody would come to take them out
        return True

    def most_urgent(self) -> Request | None:
        """Who has the earliest deadline."""
        heap = self._deadlines
        while heap and heap[0][2] not in self._queue:
            heappop(heap)
        return heap[0][2] if heap else None

    def urgent(self, until: float, most: int) -> list[Request]:
        """Those who are due until then, the earliest first."""
        due = (entry for entry in self._deadlines if entry[0] <= until and entry[2] in self._queue)
        return [request for _, _, request in nsmallest(most, due)]
