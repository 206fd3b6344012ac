"""The shares of recent answers at each exit, the shares that the manifest expects, and the drift.

The last WINDOW exits of each budget are in a ring of bytes, in memory that all workers can map.
The window then covers the answers of all workers. No lock guards it: if two workers write in the
same microsecond, one exit of the 1,000 can be lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily

from serving.observe.mapped_memory import mapped_memory

WINDOW = 1000  # answers of a budget in the window
MIN_ANSWERS = 100  # with fewer answers, shares and drift are NaN
COUNT_BYTES = 8  # before the ring: the number of exits written so far
WINDOW_BYTES = COUNT_BYTES + WINDOW


class ExitWindow:
    """The exits of a budget's recent answers, compared with the expected shares.

    Args:
        expected: Share of answers expected at each of at most 255 exits.
        memory: `WINDOW_BYTES` bytes, zeros or written by other workers.
    """

    def __init__(self, expected: Sequence[float], memory: memoryview) -> None:
        assert len(expected) < 256
        self.expected = tuple(expected)
        self._count = memory[:COUNT_BYTES].cast("Q")
        self._ring = memory[COUNT_BYTES:WINDOW_BYTES]  # 0: empty; else the exit, from 1

    def add(self, stage: int) -> None:
        """Add an answer that left at the exit of `stage` (from 0)."""
        count = self._count[0]
        self._ring[count % WINDOW] = stage + 1
        self._count[0] = count + 1

    def seen(self) -> list[float]:
        """Return the share of recent answers at each exit, NaN below `MIN_ANSWERS` answers."""
        ring = bytes(self._ring)
        answers = WINDOW - ring.count(0)
        exits = range(1, len(self.expected) + 1)
        return [ring.count(k) / answers if answers >= MIN_ANSWERS else math.nan for k in exits]

    def drift(self) -> float:
        """Return the total variation distance of seen and expected shares, from 0 (equal) to 1."""
        pairs = zip(self.seen(), self.expected, strict=True)
        return sum(abs(seen - share) for seen, share in pairs) / 2


class ExitDrift:
    """A collector with an `ExitWindow` for each named budget of a model.

    Args:
        model: Name of the model.
        expected: Share of answers expected at each exit, by budget.
        file: File that all workers map. `None` for a single process.
    """

    def __init__(
        self, model: str, expected: Mapping[str, Sequence[float]], file: Path | None = None
    ) -> None:
        size = WINDOW_BYTES + -WINDOW_BYTES % COUNT_BYTES  # so that every count is aligned
        memory = mapped_memory(file, size * len(expected))
        self._model = model
        self._budgets = {
            budget: ExitWindow(shares, memory[size * k : size * (k + 1)])
            for k, (budget, shares) in enumerate(expected.items())
        }

    def add(self, budget: str, stage: int) -> None:
        """Add an answer that left at the exit of `stage` (from 0). Ignore unknown budgets."""
        if budget in self._budgets:
            self._budgets[budget].add(stage)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics, computed at each scrape."""
        text = "Share that the manifest expects."
        yield self._shares("expected", text, lambda window: window.expected)
        text = f"Share of the last {WINDOW} answers."
        yield self._shares("seen", text, ExitWindow.seen)
        yield self._drift()

    def _shares(
        self, name: str, text: str, shares_of: Callable[[ExitWindow], Sequence[float]]
    ) -> GaugeMetricFamily:
        labels = ["model", "budget", "exit"]
        family = GaugeMetricFamily(f"offramp_exit_share_{name}", text, labels=labels)
        for budget, window in self._budgets.items():
            for number, share in enumerate(shares_of(window), 1):
                family.add_metric((self._model, budget, str(number)), share)
        return family

    def _drift(self) -> GaugeMetricFamily:
        text = "Total variation distance, shares seen to expected."
        family = GaugeMetricFamily("offramp_exit_drift", text, labels=["model", "budget"])
        for budget, window in self._budgets.items():
            family.add_metric((self._model, budget), window.drift())
        return family
