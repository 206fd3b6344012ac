"""The engine with the real runtime, behind gates if an order of events matters."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.engine.policy import Policy, resolve
from serving.engine.request import Answer
from serving.errors import DeadlineError, NotReadyError, PoolFullError
from serving.observe.metrics import OUTCOMES, Outcome
from serving.runtime.base import Runtime
from tests.serving.engines import (
    AT_ONCE,
    BUDGETS,
    MakeImages,
    WatchedEngine,
    classify,
    engine_of,
    hang_up_under_way,
    until,
)
from tests.serving.servers import GatedRuntime


def test_a_request_leaves_at_the_first_exit_that_is_confident_enough(
    runtime: Runtime, manifest: Manifest, images: MakeImages
) -> None:
    policy = resolve(manifest, min_confidence=0.6)

    async def run() -> list[Answer]:
        async with engine_of(runtime, manifest) as engine:
            return await classify(engine, images(32, 12), policy)

    answers = asyncio.run(run())
    for answer in answers:
        seen = [opinion.confidence for opinion in answer.opinions if opinion is not None]
        assert len(seen) == answer.exit
        assert all(confidence < 0.6 for confidence in seen[:-1])
        assert seen[-1] >= 0.6 or answer.exit == 4
        assert answer.total >= answer.compute > 0
        assert answer.queue >= 0
    assert len({answer.exit for answer in answers}) > 2


def test_a_full_pool_refuses_the_whole_call(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, slots=4) as engine:
            gated.shut(0)
            first = asyncio.create_task(classify(engine, images(3, 1), AT_ONCE))
            await until(lambda: engine.pool.free == 1)
            with pytest.raises(PoolFullError):
                await classify(engine, images(2, 2), AT_ONCE)
            assert engine.pool.free == 1
            assert engine.counted("low", "refused") == 2
            gated.open()
            assert len(await first) == 3
            assert len(await classify(engine, images(4, 2), AT_ONCE)) == 4

    asyncio.run(run())


def test_slots_that_were_not_used_are_given_back(runtime: Runtime, manifest: Manifest) -> None:
    async def run() -> None:
        async with engine_of(runtime, manifest, slots=4) as engine:
            with engine.admit(3, AT_ONCE):
                assert engine.pool.free == 1
            assert engine.pool.free == 4  # as if an image cannot be decoded

    asyncio.run(run())


def test_a_queued_request_gives_its_slot_back_when_its_client_hangs_up(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, max_batch=1, threads=1) as engine:
            gated.shut(0)
            running = asyncio.create_task(classify(engine, images(1, 1), AT_ONCE))
            waiting = asyncio.create_task(classify(engine, images(2, 2), AT_ONCE))
            await until(lambda: engine.scheduler.waiting == 2)
            waiting.cancel()
            await until(lambda: engine.pool.free == 63)
            assert engine.scheduler.waiting == 0
            gated.open()
            await running
            assert gated.batches == [(0, 1)]
            assert engine.counted("low", "cancelled") == 2

    asyncio.run(run())


def test_a_client_that_hangs_up_before_its_images_are_decoded_is_counted(
    runtime: Runtime, manifest: Manifest
) -> None:
    async def scenario() -> None:
        async with engine_of(runtime, manifest) as engine:
            decoding = asyncio.Event()

            async def call() -> None:
                with engine.admit(3, AT_ONCE):
                    decoding.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(call())
            await decoding.wait()
            task.cancel()
            await asyncio.wait([task])
            assert engine.counted("low", "cancelled") == 3
            assert engine.pool.free == 64

    asyncio.run(scenario())


def test_a_running_request_gives_its_slot_back_with_its_batch(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            await hang_up_under_way(engine, gated, images(1, 1), 0)
            assert gated.batches == [(0, 1)]

    asyncio.run(run())


def test_a_refusal_says_when_slots_are_expected_to_be_free(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, slots=4) as engine:
            rate, now = engine.admission.drain_rate, time.perf_counter()
            rate.freed(now - 9.5, 1)
            rate.freed(now - 5, 1)  # two in 9.5 seconds
            with (
                engine.admit(4, AT_ONCE),
                pytest.raises(PoolFullError) as caught,
            ):
                await classify(engine, images(2, 1), AT_ONCE)
            assert caught.value.headers == {"Retry-After": "10"}

    asyncio.run(run())


def test_draining_lets_calls_end_and_refuses_new_ones(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            gated.shut(0)
            call = asyncio.create_task(classify(engine, images(2, 1), AT_ONCE))
            await until(gated.entered[0].is_set)
            draining = asyncio.create_task(engine.drain())
            await until(lambda: not engine.ready)
            with pytest.raises(NotReadyError):
                await classify(engine, images(1, 1), AT_ONCE)
            assert not draining.done()
            gated.open()
            assert len(await call) == 2
            await draining

    asyncio.run(run())


def test_no_request_is_lost_under_random_events(
    runtime: Runtime, manifest: Manifest, images: MakeImages
) -> None:
    """Hang-ups, deadlines and refusals at random: every request ends once, every slot is free."""
    rng = np.random.default_rng(5)
    some = images(300, 13)

    async def one(engine: WatchedEngine, image: NDArray[np.uint8]) -> type[Exception] | None:
        await asyncio.sleep(float(rng.uniform(0, 0.2)))
        deadline = float(rng.uniform(1e-4, 0.02)) if rng.random() < 0.3 else None
        policy = resolve(manifest, BUDGETS[rng.integers(4)])
        policy = Policy(policy.name, policy.asked, policy.thresholds, deadline)
        seconds = float(rng.uniform(0, 0.01)) if rng.random() < 0.3 else 30
        try:
            async with asyncio.timeout(seconds):
                await classify(engine, [image], policy)
        except (TimeoutError, DeadlineError, PoolFullError) as error:
            return type(error)
        return None

    async def run() -> tuple[list[type[Exception] | None], dict[Outcome, float]]:
        async with engine_of(runtime, manifest, slots=16) as engine:
            ends = await asyncio.gather(*(one(engine, image) for image in some))
            await until(lambda: engine.pool.free == 16)
            return ends, {o: sum(engine.counted(b, o) for b in BUDGETS) for o in OUTCOMES}

    ends, total = asyncio.run(run())
    assert sum(total.values()) == 300
    assert total["failed"] == 0
    assert total["refused"] == ends.count(PoolFullError)
    # A client can hang up in the same moment in which its request ends otherwise.
    assert total["cancelled"] <= ends.count(TimeoutError)
    assert total["expired"] >= ends.count(DeadlineError)
    assert total["answered"] + total["deadline"] >= ends.count(None)
