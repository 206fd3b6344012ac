"""Cheap counters and histograms: numbers in memory, which become metrics at a scrape.

In its multiprocess mode prometheus_client takes 1 to 2 microseconds for an observation, and an
answer needs 12 of them. Here each value is a number in a file of the worker, which every worker
can read. The file stays when the worker is killed, and the process that replaces it continues
the counts. A scrape converts the numbers to prometheus_client's metrics.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from serving.observe.mapped_memory import mapped_memory, reserve_room
from serving.observe.prometheus_internals import floatToGoString

CELLS = 1 << 16  # numbers in a worker's file; the unused part takes no room
CELL_BYTES = 8
CELLS_AT_ONCE = 1 << 11  # that are reserved together, 16 KiB
Sums = NDArray[np.float64]


class Counter:
    """A time series of a counter."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview[float], at: int) -> None:
        self._cells = cells
        self._at = at

    def add(self, amount: float = 1) -> None:
        """Add an amount. Calls must come from one thread at a time."""
        self._cells[self._at] += amount


class Histogram:
    """A set of labels of a histogram. Its cells are the sum, then the count of each bucket."""

    __slots__ = ("_at", "_bounds", "_buckets_at", "_cells")

    def __init__(self, cells: memoryview[float], at: int, bounds: Sequence[float]) -> None:
        self._cells = cells
        self._at = at
        self._buckets_at = at + 1
        self._bounds = bounds

    def add(self, amount: float) -> None:
        """Add an observation, not NaN. Calls must come from one thread at a time."""
        self._cells[self._at] += amount
        self._cells[self._buckets_at + bisect_left(self._bounds, amount)] += 1


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric's declaration, with the first cell of each child by its label values."""

    name: str
    text: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    children: dict[tuple[str, ...], int]

    def metric(self, sums: Sums) -> Metric:
        return self._histogram(sums) if self.bounds else self._counter(sums)

    def _counter(self, sums: Sums) -> Metric:
        counter = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for values, at in self.children.items():
            counter.add_metric(values, float(sums[at]))
        return counter

    def _histogram(self, sums: Sums) -> Metric:
        histogram = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        names = [*map(floatToGoString, self.bounds), "+Inf"]
        for values, at in self.children.items():
            upto = accumulate(sums[at + 1 : at + 1 + len(names)].tolist())
            histogram.add_metric(values, [*zip(names, upto, strict=True)], float(sums[at]))
        return histogram


class Counters:
    """A collector of counters and histograms, summed over all workers.

    Args:
        folder: Folder of all workers, which declare the same metrics. `None` for a single process.
        worker: Number of this worker.

    Raises:
        OSError: The folder has no room for a file, or for what is declared.
    """

    def __init__(self, folder: Path | None = None, worker: int = 0) -> None:
        self._folder = folder
        self._file = folder / f"{worker}.counters" if folder else None
        self._cells = mapped_memory(self._file, CELLS * CELL_BYTES, reserve=False).cast("d")
        self._families: dict[str, _Family] = {}
        self._used = 0
        self._reserved = 0

    def counter(self, name: str, text: str, **labels: object) -> Counter:
        """Declare one time series of a counter. The name is without `_total`."""
        return Counter(self._cells, self._child(name, text, (), labels))

    def histogram(
        self, name: str, text: str, bounds: Sequence[float], **labels: object
    ) -> Histogram:
        """Declare one set of labels of a histogram. `bounds` are without the infinite bucket."""
        return Histogram(self._cells, self._child(name, text, bounds, labels), tuple(bounds))

    def reserve(self, declare: Callable[[Counters], object]) -> None:
        """Reserve room for what a function declares, so that it can do so later without an error.

        Raises:
            OSError: The folder has no room.
        """
        trial = Counters()
        declare(trial)
        self._reserve(self._used + trial._used)

    def collect(self) -> Iterator[Metric]:
        """Yield the counts of all workers."""
        sums = np.array(self._cells[: self._used])
        for file in self._folder.glob("*.counters") if self._folder else ():
            if file != self._file:
                theirs = np.fromfile(file, count=self._used)  # shorter if the file is new
                sums[: len(theirs)] += theirs
        for family in self._families.values():
            yield family.metric(sums)

    def _child(
        self, name: str, text: str, bounds: Sequence[float], labels: dict[str, object]
    ) -> int:
        family = self._families.setdefault(
            name, _Family(name, text, tuple(labels), tuple(bounds), {})
        )
        at = family.children[tuple(map(str, labels.values()))] = self._used
        self._used += len(bounds) + 2 if bounds else 1
        self._reserve(self._used)
        return at

    def _reserve(self, used: int) -> None:
        """Reserve room for so many cells, before one of them is written."""
        assert used <= CELLS
        if self._file and used > self._reserved:
            reserved = used + -used % CELLS_AT_ONCE
            reserve_room(self._file, reserved * CELL_BYTES)
            self._reserved = reserved
