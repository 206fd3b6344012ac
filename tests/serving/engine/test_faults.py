"""Exceptions after which the engine serves on, and stages that hang."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.scheduling.scheduler import Scheduler
from serving.errors import DeadlineError, ServingError, StageError
from serving.observe.metrics import Metrics
from serving.runtime.cpu import CpuRuntime
from serving.runtime.slots import HostSlots
from tests.serving import faulty
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    MakeImages,
    answers_in,
    classify,
    each_alone,
    ends_of,
    engine_of,
    new_engine,
    until,
)
from tests.serving.servers import GatedRuntime


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("metrics", [faulty.FaultyAnswerMetric, faulty.FaultyCountMetric])
def test_an_error_in_a_metric_of_one_request_loses_no_answer_and_no_slot(
    runtime: CpuRuntime,
    manifest: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
    threads: int,
    metrics: type[Metrics],
) -> None:
    async def run() -> None:
        async with engine_of(runtime, manifest, threads=threads, metrics=metrics) as engine:
            hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=1e-6)
            with pytest.raises(DeadlineError):
                await classify(engine, images(1, 1), hurried)
            ends = await ends_of(engine, each_alone(images(12, 1), NEVER_EARLY))
            assert [answers_in(end)[0].exit for end in ends] == [4] * 12
            assert engine.ready

    asyncio.run(run())
    assert "not counted" in caplog.text
    assert faulty.TEXT in caplog.text


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_the_bookkeeping_of_one_request_fails_that_request_alone(
    runtime: CpuRuntime,
    manifest: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
    threads: int,
) -> None:
    def flops_of(exit_: int, _: tuple[bool, ...]) -> int:
        if exit_ == 1:
            raise faulty.FaultError
        return 0

    async def run() -> None:
        async with engine_of(runtime, manifest, threads=threads, flops_of=flops_of) as engine:
            policies = (AT_ONCE, NEVER_EARLY) * 4
            ends = await ends_of(engine, [(images(1, 1), policy) for policy in policies])
            assert {type(end) for end in ends[::2]} == {ServingError}
            assert [answers_in(end)[0].exit for end in ends[1::2]] == [4] * 4
            assert engine.ready

    asyncio.run(run())
    assert "the bookkeeping of a request failed" in caplog.text


@pytest.mark.parametrize("threads", [1, 2])
def test_a_runtime_that_fails_fails_its_batch_and_the_engine_serves_on(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, threads: int
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, threads=threads) as engine:
            gated.fail_at = 2
            ends = await ends_of(engine, each_alone(images(12, 1), NEVER_EARLY))
            assert {type(end) for end in ends} == {StageError}
            assert engine.ready
            assert engine.pool.free == engine.pool.slots
            gated.fail_at = None
            (end,) = await ends_of(engine, each_alone(images(1, 1), NEVER_EARLY))
            assert isinstance(end, list)

    asyncio.run(run())


def test_a_slot_that_cannot_be_given_back_keeps_no_other(
    runtime: CpuRuntime, manifest: Manifest, images: MakeImages, caplog: pytest.LogCaptureFixture
) -> None:
    class OneBad(HostSlots):
        def give(self, slot: int) -> None:
            if slot == 1:
                raise faulty.FaultError
            super().give(slot)

    async def run() -> None:
        pool = OneBad(runtime.inputs, runtime.features, 8)
        engine = new_engine(runtime, manifest, pool=pool)
        assert len(await classify(engine, images(4, 1), NEVER_EARLY)) == 4
        await until(lambda: pool.free == 7)
        assert not await engine.drain(0.1)

    asyncio.run(run())
    assert "slot 1 could not be given back" in caplog.text


def test_images_that_do_not_fit_their_slots_keep_no_slot(
    runtime: CpuRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(runtime, manifest) as engine:
            good, bad = images(1, 1)[0], np.zeros((5, 5, 3), np.uint8)
            with pytest.raises(ValueError, match="broadcast"):
                await classify(engine, [good, bad], NEVER_EARLY)
            assert engine.pool.free == engine.pool.slots

    asyncio.run(run())


def test_draining_ends_in_its_time_although_a_stage_hangs(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        engine = new_engine(gated, manifest, threads=2)
        gated.shut(0)
        call = asyncio.create_task(classify(engine, images(2, 1), NEVER_EARLY))
        await until(gated.entered[0].is_set)
        started = time.monotonic()
        assert not await engine.drain(0.3)
        assert 0.25 < time.monotonic() - started < 20
        call.cancel()
        await asyncio.wait([call])
        gated.open()
        await until(lambda: engine.stage_threads.started == 0)

    asyncio.run(run())
    assert "2 requests under way" in caplog.text


def test_the_latency_model_is_changed_only_under_the_lock(
    runtime: CpuRuntime, manifest: Manifest, images: MakeImages
) -> None:
    """A deadline that is refused on the event loop waits for a thread that holds the lock."""
    events: list[str] = []
    release = threading.Event()

    class SlowSchedule(Scheduler):
        def schedule(self, *arguments: float, **options: bool) -> None:  # type: ignore[override]
            if self.waiting and not release.is_set():
                assert release.wait(30)
                events.append("released")
            return super().schedule(*arguments, **options)  # type: ignore[arg-type, return-value]

    class WatchedLatency(Latency):
        def decay(self, stage: int) -> None:
            events.append("decay")
            super().decay(stage)

    slow = WatchedLatency([1], [[1.0]] * 4)
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=0.5)

    async def run() -> None:
        async with engine_of(
            runtime, manifest, threads=1, latency=slow, scheduler=SlowSchedule
        ) as engine:
            call = asyncio.create_task(classify(engine, images(1, 1), AT_ONCE))
            await until(lambda: engine.scheduler.waiting)
            threading.Timer(0.2, release.set).start()
            await asyncio.sleep(0.05)  # by now the thread holds the lock
            with pytest.raises(DeadlineError):
                await classify(engine, images(1, 1), hurried)
            await call

    asyncio.run(run())
    assert events == ["released", "decay"]
