"""Metrics that are told to Prometheus now and then: many at a time cost little more than one.

An observation by itself costs a microsecond or two, and an answer is a dozen of them. Whoever
owns a tally calls `tell` before its metric is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Counts
from collections import deque
from collections.abc import Sequence
from threading import Lock

import prometheus_client

MOST = 4096  # observations that are kept: should nobody ask for them, they are told


class Histogram(prometheus_client.Histogram):
    """prometheus_client's, which takes many observations at once too."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """As `observe`, for each of them; none is NaN."""
        self._sum.inc(sum(amounts))
        buckets = Counts(bisect_left(self._upper_bounds, amount) for amount in amounts)
        for bucket, count in buckets.items():
            self._buckets[bucket].inc(count)


class Tally:
    """What a counter is to be told; all of it by one thread."""

    __slots__ = ("_counter", "_sum")

    def __init__(self, counter: prometheus_client.Counter) -> None:
        self._counter = counter
        self._sum = 0

    def add(self, amount: int = 1) -> None:
        """Count it."""
        self._sum += amount

    def tell(self) -> None:
        """Let the counter have it."""
        if self._sum:
            self._counter.inc(self._sum)
            self._sum = 0


class Observations:
    """What a histogram is to be told, by any thread."""

    __slots__ = ("_amounts", "_histogram", "_lock")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._amounts: deque[float] = deque()
        self._lock = Lock()  # of those who tell; a deque may be added to meanwhile

    def add(self, amount: float) -> None:
        """Observe it."""
        self._amounts.append(amount)
        if len(self._amounts) >= MOST:
            self.tell()

    def tell(self) -> None:
        """Let the histogram have them."""
        with self._lock:
            if amounts := [self._amounts.popleft() for _ in range(len(self._amounts))]:
                self._histogram.observe_all(amounts)
