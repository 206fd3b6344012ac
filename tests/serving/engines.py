"""An engine with the real runtime, and the calls and checks that tests make on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.engine.background.audits import Audits
from serving.engine.engine import Engine
from serving.engine.latency import Latency
from serving.engine.overload import OverloadDetector
from serving.engine.policy import Policy
from serving.engine.request import Answer
from serving.engine.scheduling.scheduler import Scheduler
from serving.observe.metrics import Metrics, Outcome
from serving.observe.model import Model
from serving.runtime.base import Runtime, Slots
from serving.runtime.slots import HostSlots
from tests.serving.servers import GatedRuntime

NEVER_EARLY = Policy("full", "full", (2.0, 2.0, 2.0, 0.0))
AT_ONCE = Policy("low", "low", (0.0, 0.0, 0.0, 0.0))
BUDGETS = ("low", "medium", "high", "full")
LINEAR = Latency([1, 8], [[1e-4, 8e-4]] * 4)  # larger batches give no higher throughput
WHOLE_NETWORK = Latency([1, 8], [[1e-4, 8e-4]] * 4, whole_network=[4e-4, 32e-4])
CONSTANT = Latency([1, 8], [[1e-4, 1e-4]] * 4)  # batches of any size take the same time
Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
MakeImages = Callable[[int, int], NDArray[np.uint8]]


class WatchedEngine(Engine):
    """The engine, beside the parts that tests look at."""

    def __init__(
        self,
        runtime: Runtime,
        pool: Slots,
        scheduler: Scheduler,
        metrics: Metrics,
        **options: Any,
    ) -> None:
        super().__init__(runtime, pool, scheduler, metrics, **options)
        self.metrics = metrics
        self.scheduler = scheduler

    def counted(self, budget: str, outcome: Outcome) -> float:
        """Return how many requests of a budget ended in this way."""
        labels = {"budget": budget, "outcome": outcome}
        count = self.metrics.registry.get_sample_value("offramp_requests_total", labels)
        assert count is not None
        return count


def new_engine(
    runtime: Runtime,
    manifest: Manifest,
    *,
    slots: int = 64,
    max_batch: int = 8,
    threads: int = 2,
    latency: Latency = LINEAR,
    overload: OverloadDetector | None = None,
    pool: Slots | None = None,
    scheduler: Callable[..., Scheduler] = Scheduler,
    metrics: type[Metrics] = Metrics,
    flops_of: Callable[[int, tuple[bool, ...]], int] | None = None,
    audits: Callable[[Metrics], Audits] | None = None,
) -> WatchedEngine:
    """Build an engine. Parts can be exchanged for others of the same interface."""
    expected = dict.fromkeys(BUDGETS, (0.25,) * 4)
    offered = manifest.promises.offered if manifest.promises else ()
    others = ("min_confidence", *(promise.label for promise in offered))
    model = Model("m", "1", "fp32", "cpu", 4, manifest.full_flops, {}, expected, others)
    counted = metrics(model)
    return WatchedEngine(
        runtime,
        pool or HostSlots(runtime.inputs, runtime.features, slots),
        scheduler(deepcopy(latency), max_batch, firsts=manifest.firsts),
        counted,
        flops_of=flops_of or manifest.flops_of,
        threads=threads,
        overload=overload,
        audits=audits(counted) if audits else None,
    )


@asynccontextmanager
async def engine_of(
    runtime: Runtime, manifest: Manifest, **options: Any
) -> AsyncIterator[WatchedEngine]:
    """An engine that is drained at the end, when all its slots have to be free."""
    engine = new_engine(runtime, manifest, **options)
    yield engine
    assert await engine.drain(20)
    assert engine.pool.free == engine.pool.slots


async def classify(
    engine: Engine, images: Images, policy: Policy, arrived: float | None = None
) -> list[Answer]:
    arrived = time.perf_counter() if arrived is None else arrived
    with engine.admit(len(images), policy) as slots:
        return await engine.classify(slots, list(images), policy, arrived)


def each_alone(images: NDArray[np.uint8], policy: Policy) -> list[tuple[Images, Policy]]:
    """Return one call for each image."""
    return [([image], policy) for image in images]


async def ends_of(
    engine: Engine, calls: Sequence[tuple[Images, Policy]]
) -> list[list[Answer] | BaseException]:
    """Classify in several calls at once. Return the answers or the error of each."""
    tasks = [classify(engine, images, policy) for images, policy in calls]
    async with asyncio.timeout(60):
        return await asyncio.gather(*tasks, return_exceptions=True)


def answers_in(end: list[Answer] | BaseException) -> list[Answer]:
    """Return the answers of a call, which must not have failed."""
    assert isinstance(end, list), end
    return end


async def hang_up_under_way(
    engine: WatchedEngine, gated: GatedRuntime, images: Images, stage: int
) -> None:
    """Hang up while the stage runs. The slots come back with the batch, not before."""
    free = engine.pool.free
    gated.shut(stage)
    call = asyncio.create_task(classify(engine, images, NEVER_EARLY))
    await until(gated.entered[stage].is_set)
    call.cancel()
    await asyncio.sleep(0.02)
    assert engine.pool.free == free - len(images)  # the stage still writes there
    gated.open()
    await until(lambda: engine.pool.free == free)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event is set when this becomes true
            await asyncio.sleep(0.001)
