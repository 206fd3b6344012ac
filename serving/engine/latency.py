"""How long a stage takes for a batch: measured at warm-up, corrected by every batch that runs.

Pure: it is told seconds and reads no clock.

    latency = Latency(sizes, seconds)            seconds[head][stage][size], from warm-up
    latency.time(stage, batch)                   interpolated between the sizes
    latency.observe(stage, batch, seconds)       what a batch really took
    latency.through                              the same for all stages in one graph
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

GAIN = 0.05  # of one observation; about the last 20 count
DOUBTED = 0.25  # of what was measured at warm-up: the least that doubt leaves of it
SOONER = 0.9  # a part of a batch must end in this share of the whole's time
SURPRISE = 2.0  # an observation counts as at most this many times too slow, or too fast


class Latency:
    """Predicted seconds of one stage for one batch.

    Args:
        sizes: batch sizes that were measured, ascending.
        with_head: seconds, [stages][sizes].
        without_head: the same for stages run without their exit head; None: as with it.
        filled: batches are filled up to the next size that was measured, and take its time.
        whole_network: seconds of all stages in one graph, [sizes]; None: there is no such graph.

    Attributes:
        stages: how many.
        whole_network: of that graph, as of a network of one stage.
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
        self._tables = ([list(row) for row in bare], [list(row) for row in with_head])
        self._least = tuple([DOUBTED * row[0] for row in table] for table in self._tables)
        self.stages = len(with_head)
        self.whole_network = (
            None if whole_network is None else Latency(sizes, [whole_network], filled=filled)
        )

    def time(self, stage: int, batch: float, *, head: bool = True) -> float:
        """Seconds that a batch is expected to take.

        Its size may be a mean; below 1 it is the chance that there is a batch at all.
        """
        row = self._tables[head][stage]
        if batch <= self._sizes[0]:
            return row[0] * min(1.0, batch)
        if batch >= self._sizes[-1]:
            return row[-1] * batch / self._sizes[-1]
        low, share = self._between(batch)
        return row[low] + share * (row[low + 1] - row[low]) if share else row[low]

    def best(self, stage: int, batch: int) -> int:
        """How many of a batch to run for most answers a second.

        Fewer than all where filling up costs more than the rest is worth.
        """
        if not self._filled:
            return batch
        full = self._sizes[bisect_right(self._sizes, batch) - 1]
        return full if full * self.time(stage, batch) >= batch * self.time(stage, full) else batch

    def shared(self, stage: int, batch: int, idle: int) -> int:
        """How many of a batch to run where idle threads can take the rest and all end sooner."""
        part = -(-batch // (1 + idle))
        sooner = part < batch and self.time(stage, part) < SOONER * self.time(stage, batch)
        return part if sooner else batch

    def observe(self, stage: int, batch: int, seconds: float, *, head: bool = True) -> None:
        """Correct the stage's times, most those of sizes around `batch`, by what a batch took.

        The step is bounded, so that a batch that met a pause of the machine moves little.
        """
        ratio = seconds / self.time(stage, batch, head=head)
        step = GAIN * (min(SURPRISE, max(1 / SURPRISE, ratio)) - 1)
        row = self._tables[head][stage]
        low, share = self._between(batch)
        for column in range(len(row)):  # load slows every size down, not only those that ran
            row[column] *= 1 + step / 2
        row[low] *= 1 + step / 2 * (1 - share)
        if share:
            row[low + 1] *= 1 + step / 2 * share

    def decay(self, stage: int) -> None:
        """A prediction turned a request away: lower it a little, for no batch will test it.

        But not for ever: deadlines that nothing could keep say nothing of the stage.
        """
        for table, least in zip(self._tables, self._least, strict=True):
            lower = table[stage][0] * (1 - GAIN / 10)
            table[stage][0] = max(lower, min(least[stage], table[stage][0]))

    def _between(self, batch: float) -> tuple[int, float]:
        """The measured size below (the least, the last), and how far from it to the next."""
        sizes = self._sizes
        if batch <= sizes[0]:
            return 0, 0.0
        if batch >= sizes[-1]:
            return len(sizes) - 1, 0.0
        if self._filled:
            return bisect_left(sizes, batch), 0.0
        low = bisect_right(sizes, batch) - 1
        return low, (batch - sizes[low]) / (sizes[low + 1] - sizes[low])
