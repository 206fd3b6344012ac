"""An engine with the real runtime, and what tests ask of it."""

import asyncio
import time
from contextlib import asynccontextmanager
from copy import deepcopy

from serving.engine.engine import Engine
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.scheduler import Scheduler
from serving.observe.metrics import Metrics, Model
from serving.runtime.slots import Pool

NEVER_EARLY = Policy("full", "full", (2.0, 2.0, 2.0, 0.0))
AT_ONCE = Policy("low", "low", (0.0, 0.0, 0.0, 0.0))
BUDGETS = ("low", "medium", "high", "full")
LINEAR = Latency([1, 8], [[1e-4, 8e-4]] * 4)  # nothing is gained by larger batches
THROUGH = Latency([1, 8], [[1e-4, 8e-4]] * 4, whole_network=[4e-4, 32e-4])
CONSTANT = Latency([1, 8], [[1e-4, 1e-4]] * 4)  # everything is


@asynccontextmanager
async def engine_of(
    runtime,
    manifest,
    *,
    slots=64,
    max_batch=8,
    threads=2,
    latency=LINEAR,
    overload=None,
    pool=None,
):
    expected = dict.fromkeys(BUDGETS, (0.25,) * 4)
    metrics = Metrics(
        Model("m", "1", "fp32", "cpu", 4, manifest.full_flops, {}, expected, ("min_confidence",))
    )
    pool = pool or Pool(runtime.inputs, runtime.features, slots)
    scheduler = Scheduler(deepcopy(latency), max_batch)
    engine = Engine(runtime, pool, scheduler, metrics, manifest.flops_of, threads, overload)
    engine.metrics, engine.pool, engine.scheduler = metrics, pool, scheduler
    yield engine
    await asyncio.wait_for(engine.drain(), 20)
    assert pool.free == pool.slots


async def classify(engine, images, policy, arrived=None):
    arrived = time.perf_counter() if arrived is None else arrived
    with engine.admit(len(images), policy) as slots:
        return await engine.classify(slots, images, policy, arrived)


async def hang_up_under_way(engine, gated, images, stage) -> None:
    """A client hangs up while the stage runs: its slots come back, but with the batch."""
    free = engine.pool.free
    gated.shut(stage)
    call = asyncio.create_task(classify(engine, images, NEVER_EARLY))
    await until(gated.entered[stage].is_set)
    call.cancel()
    await asyncio.sleep(0.02)
    assert engine.pool.free == free - len(images)  # the stage still writes there
    gated.open()
    await until(lambda: engine.pool.free == free)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
            await asyncio.sleep(0.001)


def ended(engine, budget, outcome):
    labels = {"budget": budget, "outcome": outcome}
    return engine.metrics.registry.get_sample_value("offramp_requests_total", labels)
