"""Counters and histograms that cost next to nothing to count: numbers in memory, read at a scrape.

prometheus_client takes a microsecond or two for an observation that other processes are to see,
and an answer is a dozen of them. Here each is a number in a worker's own file, which any worker
reads; the file stays where its worker is killed, and whoever takes the place goes on with it.
What is read becomes prometheus_client's metrics, as any collector's does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from serving.observe.mapped_memory import mapped_memory

CELLS = 1 << 16  # of a worker; a file has holes where there is none
BYTES = 8
Sums = NDArray[np.float64]


class Counter:
    """A counter with its labels."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: memoryview[float], at: int) -> None:
        self._cells = cells
        self._at = at

    def add(self, amount: float = 1) -> None:
        """Count it; all of it in one thread at a time."""
        self._cells[self._at] += amount


class Histogram:
    """A histogram with its labels: in its cells the sum, then how many for each bucket."""

    __slots__ = ("_at", "_bounds", "_cells")

    def __init__(self, cells: memoryview[float], at: int, bounds: Sequence[float]) -> None:
        self._cells = cells
        self._at = at
        self._bounds = bounds

    def add(self, amount: float) -> None:
        """Observe it; all of it in one thread at a time. It is no NaN."""
        self._cells[self._at] += amount
        self._cells[self._at + 1 + bisect_left(self._bounds, amount)] += 1


@dataclass(frozen=True, slots=True)
class _Family:
    """What is declared under a name, and where each of its children begins, by label values."""

    name: str
    text: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    children: dict[tuple[str, ...], int]

    def metric(self, sums: Sums) -> Metric:
        if not self.bounds:
            counter = CounterMetricFamily(self.name, self.text, labels=self.labels)
            for values, at in self.children.items():
                counter.add_metric(values, float(sums[at]))
            return counter
        histogram = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        names = [*map(floatToGoString, self.bounds), "+Inf"]
        for values, at in self.children.items():
            upto = accumulate(sums[at + 1 : at + 1 + len(names)].tolist())
            histogram.add_metric(values, [*zip(names, upto, strict=True)], float(sums[at]))
        return histogram


class Counters:
    """A collector of counters and histograms, of all workers together.

    Args:
        folder: that workers share, in which all declare the same; none: this process is alone.
        worker: this one's number.
    """

    def __init__(self, folder: Path | None = None, worker: int = 0) -> None:
        self._folder = folder
        self._file = folder / f"{worker}.tallies" if folder else None
        self._cells = mapped_memory(self._file, CELLS * BYTES).cast("d")
        self._families: dict[str, _Family] = {}
        self._used = 0

    def counter(self, name: str, text: str, **labels: object) -> Counter:
        """A counter's child; the name is without `_total`."""
        return Counter(self._cells, self._child(name, text, (), labels))

    def histogram(
        self, name: str, text: str, bounds: Sequence[float], **labels: object
    ) -> Histogram:
        """A histogram's child; the last bucket, without a bound, is not among `bounds`."""
        return Histogram(self._cells, self._child(name, text, bounds, labels), tuple(bounds))

    def collect(self) -> Iterator[Metric]:
        """What all workers counted until now."""
        sums = np.array(self._cells[: self._used])
        for file in self._folder.glob("*.tallies") if self._folder else ():
            if file != self._file:
                theirs = np.fromfile(file, count=self._used)  # shorter: it has just been made
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
        assert self._used <= CELLS
        return at
