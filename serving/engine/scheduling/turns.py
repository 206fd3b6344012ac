"""Turns of several models on the cores of a process.

Each model has as many threads as there are cores. Without turns, a flood on one model lets more
threads compute than there are cores. A thread that loses its core while it holds Python's lock can
delay all models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, local
from time import perf_counter, thread_time
from weakref import WeakValueDictionary

from serving.engine.scheduling.turn_order import TurnOrder, Use


class Turns:
    """Limits the batches that run at once, by model, in the order of `TurnOrder`.

    Args:
        cores: Batches that run at once if one model has all of them.
    """

    def __init__(self, cores: int) -> None:
        self._state = Condition()
        self._order = TurnOrder(cores)
        self._uses: WeakValueDictionary[str, Use] = WeakValueDictionary()

    def of(self, model: str, seconds: float) -> ModelTurns:
        """Return the turns of a version of a model, of which one request alone takes `seconds`.

        Versions of a model use the cores as one. So a version that has ended is no other model.
        """
        with self._state:
            use = self._uses.setdefault(model, Use(seconds))
            use.seconds = seconds
        return ModelTurns(self._state, self._order, use)


class ModelTurns:
    """The turns of one model. All methods can be called from any thread.

    Args:
        state: Lock of the order, notified of changes.
        order: The order of all models.
        use: The use that this model makes of the cores.
    """

    def __init__(self, state: Condition, order: TurnOrder, use: Use) -> None:
        self._state = state
        self._order = order
        self._use = use
        self._thread = local()

    def longest(self) -> float:
        """Return the most seconds that the next batch can take, unless it is the smallest."""
        with self._state:
            return self._order.longest(self._use, perf_counter())

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and keep it for the time of a batch on this thread."""
        with self._state:
            self._order.wait(self._use, perf_counter())
            self._end_look()
            while not self._order.can_start(self._use, perf_counter()):
                self._state.wait(self._use.patience)
            self._order.start(self._use, perf_counter())
            self._state.notify_all()  # a model that let this one go first can have a core too
        began = thread_time()
        try:
            yield
        finally:
            seconds = thread_time() - began
            with self._state:
                self._order.end(self._use, seconds, perf_counter())
                self._thread.looks = True
                self._state.notify_all()

    def rest(self) -> None:
        """Note that this thread has found no batch."""
        with self._state:
            self._end_look()

    def _end_look(self) -> None:
        if getattr(self._thread, "looks", False):
            self._thread.looks = False
            self._order.looked(self._use, perf_counter())
