"""Counters of a shadow: its answers beside those that clients got."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from serving.audit.metrics import AGREES, REASONS, Unknown
from serving.observe.counters import Counters
from serving.observe.metrics import SECONDS

Side = Literal["served", "shadow"]
Dropped = Literal[Unknown, "budget"]
SIDES: tuple[Side, Side] = ("served", "shadow")
DROPPED: tuple[Dropped, ...] = (
    *REASONS,
    "budget",  # the version has no such budget or promise, or rejects nothing
)
# Texts of the metrics.
COPIES = "Copies by budget, and whether their class is that of the answer."
EXITS = "Exits of compared answers and of their copies."
FLOPS = "Flops of compared answers and of their copies."
BATCHES = "Batches of a compared answer and of its copy, without waiting."
NOT_COMPARED = "Requests that were drawn for a copy and not compared."


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
        copies = partial(counters.counter, "offramp_shadow", COPIES)
        exit_ = partial(counters.counter, "offramp_shadow_exits", EXITS)
        flops = partial(counters.counter, "offramp_shadow_flops", FLOPS)
        seconds = partial(counters.histogram, "offramp_shadow_seconds", BATCHES, SECONDS)
        dropped = partial(counters.counter, "offramp_shadow_dropped", NOT_COMPARED)
        self._compared = {
            budget: {agrees: copies(budget=budget, agrees=name) for agrees, name in AGREES.items()}
            for budget in budgets
        }
        self._exits = [
            [exit_(side=side, exit=number) for number in range(1, count + 1)]
            for side, count in zip(SIDES, exits, strict=True)
        ]
        self._flops = [flops(side=side) for side in SIDES]
        self._seconds = [seconds(side=side) for side in SIDES]
        self._dropped = {reason: dropped(reason=reason) for reason in DROPPED}

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
