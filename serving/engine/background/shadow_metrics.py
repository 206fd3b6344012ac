"""Counters of a shadow: its answers beside those that clients got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from serving.audit.metrics import AGREES, REASONS, Unknown
from serving.observe.counters import Counter, Counters, Histogram
from serving.observe.metrics import SECONDS

Side = Literal["served", "shadow"]
Dropped = Literal[Unknown, "budget"]
SIDES: tuple[Side, Side] = ("served", "shadow")
DROPPED: tuple[Dropped, ...] = (
    *REASONS,
    "budget",  # the version has no such budget or promise, or rejects nothing
)


class Cost(NamedTuple):
    """The exit of an answer (from 1), its flops, and the seconds of its batches."""

    exit: int
    flops: int
    seconds: float


class ShadowCounters:
    """Counts the comparisons of a version that is a shadow, from its load on.

    Args:
        counters: Counters of this worker, of the shadow.
        budgets: Budget labels of the shadow.
        exits: Number of exits of the version that answers, and of the shadow.
    """

    def __init__(self, counters: Counters, budgets: Sequence[str], exits: tuple[int, int]) -> None:
        def shadow(budget: str, agrees: str) -> Counter:
            text = "Copies by budget, and whether their class is that of the answer."
            return counters.counter("offramp_shadow", text, budget=budget, agrees=agrees)

        def left(side: Side, number: int) -> Counter:
            text = "Exits of compared answers and of their copies."
            return counters.counter("offramp_shadow_exits", text, side=side, exit=number)

        def spent(side: Side) -> Counter:
            text = "Flops of compared answers and of their copies."
            return counters.counter("offramp_shadow_flops", text, side=side)

        def took(side: Side) -> Histogram:
            text = "Batches of a compared answer and of its copy, without waiting."
            return counters.histogram("offramp_shadow_seconds", text, SECONDS, side=side)

        def dropped(reason: Dropped) -> Counter:
            text = "Requests that were drawn for a copy and not compared."
            return counters.counter("offramp_shadow_dropped", text, reason=reason)

        self._compared = {
            budget: {agrees: shadow(budget, name) for agrees, name in AGREES.items()}
            for budget in budgets
        }
        self._exits = [
            [left(side, number) for number in range(1, count + 1)]
            for side, count in zip(SIDES, exits, strict=True)
        ]
        self._flops = [spent(side) for side in SIDES]
        self._seconds = [took(side) for side in SIDES]
        self._dropped = {reason: dropped(reason) for reason in DROPPED}

    def compared(self, budget: str, served: Cost, shadow: Cost, *, agrees: bool) -> None:
        """Count a copy that was compared with the answer, by the copy's budget."""
        self._compared[budget][agrees].add()
        for at, cost in enumerate((served, shadow)):
            self._exits[at][cost.exit - 1].add()
            self._flops[at].add(cost.flops)
            self._seconds[at].add(cost.seconds)

    def drop(self, reason: Dropped) -> None:
        """Count a drawn request that is not compared."""
        self._dropped[reason].add()
