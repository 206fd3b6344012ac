"""Turns of several models on the cores of a process.

Each model has as many threads as there are cores. Without turns, a flood on one model lets more
threads compute than there are cores. A thread that loses its core while it holds Python's lock can
delay all models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """Limits the batches that run at once, by model.

    A model can start a batch while a core is free, or while it runs fewer batches than its share:
    the cores divided by the models that compute or wait, at least one. So a model that runs nothing
    never waits, and one that floods its threads leaves the cores to others when they need them.

    Args:
        cores: Batches that run at once if one model has all of them.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._state = Condition()
        self._running: Counter[object] = Counter()
        self._waiting: Counter[object] = Counter()

    @contextmanager
    def of(self, model: object) -> Iterator[None]:
        """Wait for a turn of a model, and keep it for the time of a batch."""
        with self._state:
            self._waiting[model] += 1
            self._state.wait_for(lambda: self._can_start(model))
            _decrease(self._waiting, model)
            self._running[model] += 1
        try:
            yield
        finally:
            with self._state:
                _decrease(self._running, model)
                self._state.notify_all()

    def _can_start(self, model: object) -> bool:
        models = len(self._running.keys() | self._waiting.keys())
        share = max(1, self._cores // models)
        return self._running[model] < share or self._running.total() < self._cores


def _decrease(counts: Counter[object], model: object) -> None:
    """Count one less, and forget a model without any."""
    counts[model] -= 1
    if not counts[model]:
        del counts[model]
