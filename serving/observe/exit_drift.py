"""Which exits recent answers took, beside what the manifest expects: shares, and their distance.

The last WINDOW exits of each budget lie in a ring of bytes, in memory that the workers of a
server may share: the window is then theirs together. Nobody locks it: of two workers that
write in the same microsecond one may lose its exit, out of a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily

from serving.observe.mapped_memory import mapped_memory

WINDOW = 1000  # answers of a budget that the shares seen are taken over
ENOUGH = 100  # answers; fewer say nothing about drift
COUNT = 8  # bytes before the ring: how many exits were ever written
SIZE = COUNT + WINDOW


class ExitShares:
    """The share of recent answers that left at each exit, beside the share expected.

    Args:
        expected: of each exit, 255 at most.
        memory: `SIZE` bytes; zeros, or where others have begun.
    """

    def __init__(self, expected: Sequence[float], memory: memoryview) -> None:
        assert len(expected) < 256
        self.expected = tuple(expected)
        self._count = memory[:COUNT].cast("Q")
        self._ring = memory[COUNT:SIZE]  # 0: nothing yet; else the exit, from 1

    def add(self, stage: int) -> None:
        """One more answer left at the exit of `stage` (from 0)."""
        count = self._count[0]
        self._ring[count % WINDOW] = stage + 1
        self._count[0] = count + 1

    def seen(self) -> list[float]:
        """The share of recent answers that left at each exit; NaN before there are enough."""
        ring = bytes(self._ring)
        answers = WINDOW - ring.count(0)
        exits = range(1, len(self.expected) + 1)
        return [ring.count(k) / answers if answers >= ENOUGH else math.nan for k in exits]

    def drift(self) -> float:
        """Total variation distance between seen and expected: 0 the same, 1 apart."""
        pairs = zip(self.seen(), self.expected, strict=True)
        return sum(abs(seen - share) for seen, share in pairs) / 2


class ExitDrift:
    """`ExitShares` of every named budget of a model.

    Args:
        model: its name.
        expected: for each budget, the share expected at each exit.
        file: that workers share; none: this process is alone.
    """

    def __init__(
        self, model: str, expected: Mapping[str, Sequence[float]], file: Path | None = None
    ) -> None:
        size = SIZE + -SIZE % COUNT  # so that every count is aligned
        memory = mapped_memory(file, size * len(expected))
        self._model = model
        self._budgets = {
            budget: ExitShares(shares, memory[size * k : size * (k + 1)])
            for k, (budget, shares) in enumerate(expected.items())
        }

    def add(self, budget: str, stage: int) -> None:
        """An answer left at the exit of `stage` (from 0); budgets without shares are let be."""
        if budget in self._budgets:
            self._budgets[budget].add(stage)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics, computed at each scrape."""
        at = ["model", "budget", "exit"]
        name, text = "offramp_exit_share_expected", "Share that the manifest expects."
        expected = GaugeMetricFamily(name, text, labels=at)
        name, text = "offramp_exit_share_seen", f"Share of the last {WINDOW} answers."
        seen = GaugeMetricFamily(name, text, labels=at)
        name, text = "offramp_exit_drift", "Total variation distance, shares seen to expected."
        drift = GaugeMetricFamily(name, text, labels=at[:2])
        for budget, shares in self._budgets.items():
            drift.add_metric((self._model, budget), shares.drift())
            for k, pair in enumerate(zip(shares.expected, shares.seen(), strict=True), 1):
                labels = (self._model, budget, str(k))
                expected.add_metric(labels, pair[0])
                seen.add_metric(labels, pair[1])
        yield from (expected, seen, drift)
