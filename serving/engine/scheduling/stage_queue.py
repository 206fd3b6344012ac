"""The queue of one stage: first in, first out, and by deadline."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, nsmallest
from itertools import count, islice

from serving.engine.request import Request


class StageQueue:
    """The requests that wait for one stage, in the order in which they came.

    Attributes:
        with_deadline: Number of requests with a deadline.
    """

    def __init__(self) -> None:
        # A dictionary as an ordered set: first in, first out, and fast to remove from.
        self._queue: dict[Request, None] = {}
        self._deadlines: list[tuple[float, int, Request]] = []
        self._ticket = count()
        self._oldest_passed = False  # the last batch had no place for the oldest request
        self.with_deadline = 0

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self._queue)

    def __iter__(self) -> Iterator[Request]:
        """Iterate from the first that came to the last."""
        return iter(self._queue)

    def add(self, request: Request) -> None:
        """Add a request."""
        self._queue[request] = None
        if request.policy.deadline is not None:
            self.with_deadline += 1
            heappush(self._deadlines, (request.due, next(self._ticket), request))

    def remove(self, request: Request) -> bool:
        """Remove a request. Return whether it was in the queue."""
        if request not in self._queue:
            return False
        del self._queue[request]
        self.with_deadline -= request.policy.deadline is not None
        if len(self._deadlines) > 2 * self.with_deadline:  # most are of requests that left
            self._deadlines = [entry for entry in self._deadlines if entry[2] in self._queue]
            heapify(self._deadlines)
        return True

    def most_urgent(self) -> Request | None:
        """Return the request with the earliest deadline."""
        heap = self._deadlines
        while heap and heap[0][2] not in self._queue:
            heappop(heap)
        return heap[0][2] if heap else None

    def urgent(self, until: float, most: int) -> list[Request]:
        """Return at most `most` requests that are due until a time, the earliest first."""
        due = (entry for entry in self._deadlines if entry[0] <= until and entry[2] in self._queue)
        return [request for _, _, request in nsmallest(most, due)]

    def oldest(self, most: int) -> tuple[Request, ...]:
        """Return at most `most` requests for a batch, in the order of arrival."""
        self._oldest_passed = False
        return tuple(islice(self._queue, most))

    def urgent_first(self, until: float, most: int) -> tuple[Request, ...]:
        """Return at most `most` requests for a batch: those due until a time, then the oldest.

        After a batch without the oldest request, that one has the first place.
        """
        first = [*islice(self._queue, 1)] if self._oldest_passed else []
        order = dict.fromkeys((*first, *self.urgent(until, most), *self._queue))
        chosen = tuple(islice(order, most))
        self._oldest_passed = next(iter(self._queue)) not in chosen
        return chosen
