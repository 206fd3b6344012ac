"""Exceptions outside a stage's own run: every request gets an answer, and the reason is told."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.engine import assembly
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.scheduler import Scheduler
from serving.errors import DeadlineError, NotReadyError, ServingError, StageError
from serving.http.app import create_app
from serving.observe.metrics import Metrics
from serving.runtime.cpu import CpuRuntime
from serving.runtime.slots import HostSlots
from serving.settings import Settings
from tests.serving import faulty
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    Images,
    MakeImages,
    answers_in,
    classify,
    ends_of,
    engine_of,
    new_engine,
    until,
)
from tests.serving.servers import GatedRuntime

BREAKING = [
    (faulty.FaultySchedule, Metrics),
    (faulty.FaultyUpdate, Metrics),
    (Scheduler, faulty.FaultyBatchMetric),
]


@pytest.fixture(scope="module")
def runtime(bundle: Path, manifest: Manifest) -> CpuRuntime:
    return CpuRuntime(bundle, manifest)


def each_alone(images: NDArray[np.uint8], policy: Policy) -> list[tuple[Images, Policy]]:
    """Return one call for each image."""
    return [([image], policy) for image in images]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("scheduler", "metrics"), BREAKING)
def test_a_broken_thread_fails_all_requests_and_refuses_new_ones(
    runtime: CpuRuntime,
    manifest: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
    threads: int,
    scheduler: type[Scheduler],
    metrics: type[Metrics],
) -> None:
    async def run() -> None:
        engine = new_engine(
            runtime, manifest, max_batch=2, threads=threads, scheduler=scheduler, metrics=metrics
        )
        callbacks: list[None] = []
        engine.when_broken(lambda: callbacks.append(None))
        ends = await ends_of(engine, each_alone(images(12, 1), NEVER_EARLY))
        assert {type(end) for end in ends} == {StageError}
        assert engine.counted("full", "failed") == 12
        assert not engine.ready
        assert engine.refusal is not None
        assert f"FaultError: {faulty.TEXT}" in engine.refusal
        with pytest.raises(NotReadyError, match=faulty.TEXT):
            await classify(engine, images(1, 1), AT_ONCE)
        assert callbacks == [None]
        async with asyncio.timeout(30):
            assert not await engine.drain(60)
        await until(lambda: engine.stage_threads.started == 0)

    asyncio.run(run())
    (record, *_) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.exc_info is not None
    assert record.exc_info[0] is faulty.FaultError


@pytest.mark.parametrize("threads", [1, 2])
def test_requests_do_not_wait_for_a_stage_that_runs_when_another_thread_breaks(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, threads: int
) -> None:
    class FaultyLater(Scheduler):
        def expired(self, _: float) -> list[object]:  # type: ignore[override]
            if gated.entered[1].is_set() and self.waiting:
                raise faulty.FaultError
            return []

    async def run() -> None:
        engine = new_engine(gated, manifest, max_batch=1, threads=threads, scheduler=FaultyLater)
        gated.shut(1)
        held = asyncio.create_task(ends_of(engine, each_alone(images(1, 1), NEVER_EARLY)))
        await until(gated.entered[1].is_set)
        late = asyncio.create_task(ends_of(engine, each_alone(images(3, 1), NEVER_EARLY)))
        if threads == 1:  # the only thread meets the fault once its stage has ended
            await until(lambda: engine.scheduler.waiting == 3)
            gated.open()
        ends = [*await held, *await late]
        assert {type(end) for end in ends} == {StageError}
        assert engine.broken is not None
        assert not await engine.drain(0.2)

    asyncio.run(run())


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


@pytest.mark.parametrize("scheduler", [faulty.FaultyAdd, faulty.FaultyDrop])
def test_a_scheduler_that_fails_on_the_event_loop_breaks_the_engine(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, scheduler: type[Scheduler]
) -> None:
    async def run() -> None:
        engine = new_engine(gated, manifest, threads=1, max_batch=1, scheduler=scheduler)
        gated.shut(0)
        calls = [asyncio.create_task(classify(engine, images(1, 1), NEVER_EARLY)) for _ in range(3)]
        if scheduler is faulty.FaultyDrop:
            await until(lambda: engine.scheduler.waiting == 2)
            calls[2].cancel()
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*calls, return_exceptions=True)
        expected = {faulty.FaultyAdd: faulty.FaultError, faulty.FaultyDrop: StageError}
        assert isinstance(ends[0], expected[scheduler])
        assert isinstance(ends[2], (faulty.FaultError, asyncio.CancelledError))
        assert engine.broken is not None
        assert not await engine.drain(0.1)

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


@pytest.mark.parametrize("fault", ["schedule", "update", "batch metric"])
@pytest.mark.parametrize("threads", [1, 2])
def test_readiness_says_why_the_engine_broke(
    bundle: Path,
    images: MakeImages,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    threads: int,
) -> None:
    _, name, part = faulty.FAULTS[fault]
    monkeypatch.setattr(assembly, name, part)
    app = create_app(Settings(bundle=bundle, threads=threads, max_batch=1, slots=16))
    body = images(1, 0).tobytes()
    kind = {"content-type": "application/vnd.offramp.uint8"}

    async def run() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/health/ready")).status_code == 200
            calls = [client.post("/classify", content=body, headers=kind) for _ in range(6)]
            answers = await asyncio.wait_for(asyncio.gather(*calls), 30)
            assert {answer.status_code for answer in answers} == {500}
            assert {answer.json()["type"] for answer in answers} == {"/problems/stage-failed"}
            for method, path in (("GET", "/health/ready"), ("POST", "/classify")):
                refused = await client.request(method, path, content=body, headers=kind)
                assert refused.status_code == 503
                assert refused.json()["type"] == "/problems/not-ready"
                assert faulty.TEXT in refused.json()["detail"]
            assert (await client.get("/health/live")).status_code == 200

    asyncio.run(run())
