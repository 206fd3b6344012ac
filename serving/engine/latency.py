"""The seconds that a stage takes for a batch: measured at warm-up, corrected by each batch.

    latency = Latency(sizes, seconds)            seconds[stage][size], from warm-up
    latency.time(stage, batch)                   interpolated between the sizes
    latency.observe(stage, batch, seconds)       the time that a batch took
    latency.image_time(stage)                    seconds for one image in the batches that ran
    latency.whole_network                        the same for all stages in one graph

It reads no clock. Under several threads a lock has to guard it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

CORRECTION = 0.05  # by one observation, so that about the last 20 count
LEAST_DECAYED = 0.25  # of the time at warm-up: `decay` goes no lower
SPLIT_BELOW = 0.9  # a batch is split if a part ends in this fraction of the whole's time
LEAST_WEIGHT = 0.03  # of one batch, so that about the last 30 count
LONGEST = 4.0  # a batch counts as at most so many times as long as its images took before
MAX_RATIO = 2.0  # an observation counts as at most so many times too slow, or too fast


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Measured:
    """Times at warm-up, the arguments of `Latency`."""

    sizes: Sequence[int]
    with_head: Sequence[Sequence[float]]
    without_head: Sequence[Sequence[float]]
    filled: bool
    whole_network: Sequence[float] | None

    def latency(self) -> Latency:
        """Return a new model, which keeps these times alive."""
        made = Latency(
            self.sizes,
            self.with_head,
            self.without_head,
            filled=self.filled,
            whole_network=self.whole_network,
        )
        made.measured = self
        return made


class ImageTime:
    """A running mean of seconds for one image: of the time of batches, divided by their images.

    An image in a batch of n costs an n-th of the batch. Several threads can add batches. If two
    meet, one can be lost, which changes the mean by little.

    Args:
        seconds: Seconds of a batch of one image, as it was measured at warm-up.
    """

    __slots__ = ("_images", "_seconds", "_seen")

    def __init__(self, seconds: float) -> None:
        self._seconds, self._images, self._seen = seconds, 1.0, 1

    @property
    def seconds(self) -> float:
        """Seconds for one image."""
        return self._seconds / self._images

    def add(self, images: int, seconds: float) -> None:
        """Add a batch. One that met a pause of the machine counts as a slow one."""
        self._seen += 1
        weight = max(LEAST_WEIGHT, 1 / self._seen)
        longest = LONGEST * images * self.seconds
        seconds = min(seconds, longest or seconds)
        self._seconds += weight * (seconds - self._seconds)
        self._images += weight * (images - self._images)


class Latency:
    """A model of the seconds that one stage takes for one batch.

    Args:
        sizes: Batch sizes that were measured, ascending.
        with_head: Seconds, [stages][sizes].
        without_head: Seconds of stages without their exit head. `None`: as with it.
        filled: Batches are filled up to the next measured size, and take its time.
        whole_network: Seconds of all stages in one graph, [sizes]. `None`: there is no such graph.

    Attributes:
        measured: The times at warm-up, without the corrections since.
        stages: Number of stages.
        whole_network: The model of that graph, as of a network with one stage.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        with_head: Sequence[Sequence[float]],
        without_head: Sequence[Sequence[float]] | None = None,
        *,
        filled: bool = False,
        whole_network: Sequence[float] | None = None,
    ) -> None:
        assert list(sizes) == sorted(set(sizes))
        self._sizes = list(sizes)
        self._filled = filled
        bare = with_head if without_head is None else without_head
        self.measured = Measured(sizes, with_head, bare, filled, whole_network)
        self._tables = ([list(row) for row in bare], [list(row) for row in with_head])
        self._least = tuple([LEAST_DECAYED * row[0] for row in table] for table in self._tables)
        self._image_times = tuple(
            [ImageTime(row[0] / sizes[0]) for row in table] for table in self._tables
        )
        self.stages = len(with_head)
        self.whole_network = (
            None if whole_network is None else Latency(sizes, [whole_network], filled=filled)
        )

    def time(self, stage: int, batch: float, *, head: bool = True) -> float:
        """Return the seconds that a batch is expected to take.

        Its size can be a mean. Below 1 it is the probability that there is a batch at all.
        """
        row = self._tables[head][stage]
        if batch <= self._sizes[0]:
            return row[0] * min(1.0, batch)
        if batch >= self._sizes[-1]:
            return row[-1] * batch / self._sizes[-1]
        low, fraction = self._between(batch)
        return row[low] + fraction * (row[low + 1] - row[low]) if fraction else row[low]

    def alone(self) -> float:
        """Return the seconds of one request through all stages."""
        return sum(self.time(stage, 1) for stage in range(self.stages))

    def best(self, stage: int, batch: int) -> int:
        """Return how many requests of a batch to run for the highest throughput.

        These are fewer than all if filling up costs more than the rest gains.
        """
        if not self._filled:
            return batch
        full = self._sizes[bisect_right(self._sizes, batch) - 1]
        return full if full * self.time(stage, batch) >= batch * self.time(stage, full) else batch

    def split(self, stage: int, batch: int, idle: int) -> int:
        """Return how many requests of a batch to run if idle threads can run the rest sooner."""
        part = -(-batch // (1 + idle))
        sooner = part < batch and self.time(stage, part) < SPLIT_BELOW * self.time(stage, batch)
        return part if sooner else batch

    def fitting(self, stage: int, batch: int, seconds: float) -> int:
        """Return how many requests of a batch, at least one, run within some seconds."""
        if seconds == math.inf:
            return batch
        while batch > 1 and self.time(stage, batch) > seconds:
            batch -= 1
        return batch

    def observe(self, stage: int, batch: int, seconds: float, *, head: bool = True) -> None:
        """Correct the times of a stage, most those of sizes around `batch`.

        The step is bounded, so that a batch that met a pause of the machine changes little.
        """
        ratio = seconds / self.time(stage, batch, head=head)
        step = CORRECTION * (min(MAX_RATIO, max(1 / MAX_RATIO, ratio)) - 1)
        self.count(stage, batch, seconds, head=head)
        row = self._tables[head][stage]
        low, fraction = self._between(batch)
        for column in range(len(row)):  # load slows every size down, not only those that ran
            row[column] *= 1 + step / 2
        row[low] *= 1 + step / 2 * (1 - fraction)
        if fraction:
            row[low + 1] *= 1 + step / 2 * fraction

    def image_time(self, stage: int, *, head: bool = True) -> float:
        """Return the mean seconds for one image: of a batch of one, until there were batches."""
        return self._image_times[head][stage].seconds

    def count(self, stage: int, batch: int, seconds: float, *, head: bool = True) -> None:
        """Add a batch to `image_time` alone. It needs no lock."""
        self._image_times[head][stage].add(batch, seconds)

    def decay(self, stage: int) -> None:
        """Lower a prediction a little after it refused a request, because no batch will test it.

        It has a lower bound: deadlines that nothing could meet say nothing about the stage.
        """
        for table, least in zip(self._tables, self._least, strict=True):
            lower = table[stage][0] * (1 - CORRECTION / 10)
            table[stage][0] = max(lower, min(least[stage], table[stage][0]))

    def _between(self, batch: float) -> tuple[int, float]:
        """Return the index of the measured size below `batch`, and the fraction to the next."""
        sizes = self._sizes
        if batch <= sizes[0]:
            return 0, 0.0
        if batch >= sizes[-1]:
            return len(sizes) - 1, 0.0
        if self._filled:
            return bisect_left(sizes, batch), 0.0
        low = bisect_right(sizes, batch) - 1
        return low, (batch - sizes[low]) / (sizes[low + 1] - sizes[low])
