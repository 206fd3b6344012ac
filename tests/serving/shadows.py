"""An engine of a test with a shadow, and what the shadow counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from offramp.bundle.manifest import Manifest
from serving.engine.background.shadow import Shadow
from serving.engine.background.shadow_metrics import DROPPED, Dropped, ShadowCounters, Side
from serving.runtime.base import Runtime
from tests.serving.engines import WatchedEngine, engine_of, until


@dataclass
class Pair:
    """The engine that answers, that of its shadow, and what the shadow counted."""

    served: WatchedEngine
    shadowed: WatchedEngine
    shadow: Shadow

    def compared(self, budget: str) -> tuple[float, float]:
        """Return the numbers of copies that agree, and that do not."""
        yes, no = (self._value("total", budget=budget, agrees=each) for each in ("true", "false"))
        return yes, no

    def exits(self, side: Side) -> dict[int, float]:
        counts = {k: self._value("exits_total", side=side, exit=str(k)) for k in range(1, 5)}
        return {k: count for k, count in counts.items() if count}

    def flops(self, side: Side) -> float:
        return self._value("flops_total", side=side)

    def times(self, side: Side) -> float:
        """Return the number of times that were observed."""
        return self._value("seconds_count", side=side)

    def dropped(self) -> dict[Dropped, float]:
        counts = {reason: self._value("dropped_total", reason=reason) for reason in DROPPED}
        return {reason: count for reason, count in counts.items() if count}

    async def settled(self) -> None:
        """Wait until all copies have ended."""
        await until(lambda: self.shadowed.pool.free == self.shadowed.pool.slots)

    def _value(self, name: str, **labels: str) -> float:
        registry = self.shadowed.metrics.registry
        value = registry.get_sample_value(f"offramp_shadow_{name}", labels)
        assert value is not None
        return value


@asynccontextmanager
async def shadowing(
    runtime: Runtime,
    manifest: Manifest,
    other: Runtime,
    version: Manifest | None = None,
    slots: int = 256,
    **options: Any,
) -> AsyncIterator[Pair]:
    """An engine with a shadow of all requests. At its end all slots of both have to be free."""
    version = version or manifest
    async with (
        engine_of(other, version, slots=slots) as shadowed,
        engine_of(runtime, manifest, **options) as served,
    ):
        metrics = shadowed.metrics
        counters = ShadowCounters(metrics.counters, metrics.budgets, (4, 4))
        shadow = Shadow(1.0, manifest, version, shadowed.copies, counters)
        shadowed.copies.give_way(lambda: served.in_progress > 0)
        served.start_copying(shadow)
        yield Pair(served, shadowed, shadow)
