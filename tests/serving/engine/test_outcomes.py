"""What the ends of requests say about the load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.errors import DeadlineError, DeadlineTooShortError, PoolFullError
from serving.runtime.cpu import CpuRuntime
from tests.serving.engines import AT_ONCE, MakeImages, classify, engine_of, until
from tests.serving.servers import GatedRuntime

SLOW = Latency([1, 8], [[10.0, 10.0]] * 4)  # seconds


def within(seconds: float) -> Policy:
    return Policy("low", "low", AT_ONCE.thresholds, deadline=seconds)


def test_an_engine_that_answers_is_not_overloaded(
    bundle: Path, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(CpuRuntime(bundle, manifest), manifest) as engine:
            assert not engine.overloaded()
            assert engine.ended() == 0
            await classify(engine, images(3, 1), AT_ONCE)
            assert not engine.overloaded()
            assert engine.ended() == 3

    asyncio.run(run())


def test_an_engine_that_refuses_requests_is_overloaded(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, slots=2) as engine:
            gated.shut(0)
            first = asyncio.create_task(classify(engine, images(2, 1), AT_ONCE))
            await until(lambda: engine.pool.free == 0)
            assert not engine.overloaded(), "all slots are taken, and no request is refused"
            with pytest.raises(PoolFullError):
                await classify(engine, images(1, 2), AT_ONCE)
            assert engine.overloaded()
            assert engine.ended() == 1, "the refused one counts too"
            gated.open()
            await first
            await until(lambda: not engine.overloaded())

    asyncio.run(run())


def test_an_engine_that_misses_deadlines_is_overloaded(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            gated.shut(0)
            with pytest.raises(DeadlineError):
                await classify(engine, images(1, 1), within(0.05))
            assert engine.overloaded()
            assert engine.ended() == 1
            gated.open()

    asyncio.run(run())


def test_a_deadline_that_no_idle_server_meets_is_no_overload(
    bundle: Path, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(CpuRuntime(bundle, manifest), manifest, latency=SLOW) as engine:
            with pytest.raises(DeadlineTooShortError):
                await classify(engine, images(1, 1), within(1.0))
            assert engine.counted("low", "expired") == 1
            assert not engine.overloaded()

    asyncio.run(run())
