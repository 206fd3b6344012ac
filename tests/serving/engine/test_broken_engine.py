"""Exceptions that break the engine: every request gets an answer, and the reason is told."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.scheduling.scheduler import Scheduler
from serving.engine.start import assembly
from serving.errors import NotReadyError, StageError
from serving.http.app import create_app
from serving.observe.metrics import Metrics
from serving.runtime.cpu import CpuRuntime
from serving.settings import Settings
from tests.serving import faulty
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    MakeImages,
    classify,
    each_alone,
    ends_of,
    new_engine,
    until,
)
from tests.serving.servers import GatedRuntime

BREAKING = [
    (faulty.FaultySchedule, Metrics),
    (faulty.FaultyUpdate, Metrics),
    (Scheduler, faulty.FaultyBatchMetric),
]


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
