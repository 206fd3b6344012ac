"""Deadlines in the engine with the real runtime."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.request import Answer
from serving.errors import DeadlineError
from serving.runtime.base import Runtime
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    MakeImages,
    classify,
    engine_of,
    until,
)
from tests.serving.servers import GatedRuntime


def test_at_the_deadline_the_deepest_exit_answers(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    urgent = Policy("full", "full", NEVER_EARLY.thresholds, deadline=0.4)
    explained = Policy("full", "full", NEVER_EARLY.thresholds, explain=True)

    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            (full,) = await classify(engine, images(1, 1), explained)
            gated.shut(2)
            (answer,) = await classify(engine, images(1, 1), urgent)
            assert answer.deadline_hit
            assert answer.exit == 2
            assert 0.4 <= answer.total < 20
            second = full.opinions[1]
            assert second is not None
            np.testing.assert_array_equal(answer.opinion.probabilities, second.probabilities)
            assert engine.counted("full", "deadline") == 1
            gated.open()

    asyncio.run(run())


def test_a_deadline_before_the_first_exit_is_an_error(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    urgent = Policy("low", "low", AT_ONCE.thresholds, deadline=0.4)

    async def run() -> None:
        async with engine_of(gated, manifest, max_batch=1, threads=1) as engine:
            gated.shut(0)
            with pytest.raises(DeadlineError, match="before the first exit"):
                await classify(engine, images(2, 1), urgent)
            await until(lambda: engine.pool.free == 63)  # one ran, one waited
            gated.open()
            await until(lambda: engine.pool.free == 64)
            assert gated.batches == [(0, 1)]
            assert engine.counted("low", "expired") == 2

    asyncio.run(run())


def test_a_deadline_that_the_running_batch_uses_up_is_refused_at_once(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    slow = Latency([1, 8], [[10.0, 80.0]] * 4)  # seconds
    patient = Policy("low", "low", AT_ONCE.thresholds, deadline=15.0)

    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, latency=slow) as engine:
            engine.admission.check_deadline(patient, 1, 0)
            gated.shut(0)
            first = asyncio.create_task(classify(engine, images(1, 1), AT_ONCE))
            await until(gated.entered[0].is_set)
            with pytest.raises(DeadlineError, match="no time to reach the first exit"):
                engine.admission.check_deadline(patient, 1, 0)
            gated.open()
            await first
            await until(lambda: engine.stage_threads.running == 0)
            engine.admission.check_deadline(patient, 1, 0)

    asyncio.run(run())


def test_a_deadline_that_has_passed_already_runs_nothing(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    urgent = Policy("low", "low", AT_ONCE.thresholds, deadline=0.05)

    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            with pytest.raises(DeadlineError):
                await classify(engine, images(1, 1), urgent, arrived=time.perf_counter() - 1)

    asyncio.run(run())
    assert gated.batches == []


def test_a_deadline_too_short_for_the_first_exit_is_refused_at_once(
    gated: GatedRuntime, manifest: Manifest
) -> None:
    urgent = Policy("low", "low", AT_ONCE.thresholds, deadline=0.5)

    async def run() -> None:
        async with engine_of(gated, manifest, latency=Latency([1], [[1.0]] * 4)) as engine:
            with (
                pytest.raises(DeadlineError, match="no time to reach the first exit"),
                engine.admit(2, urgent),
            ):
                raise AssertionError
            assert engine.counted("low", "expired") == 2
            for _ in range(200):  # predictions that no batch can test decay
                with suppress(DeadlineError), engine.admit(1, urgent):
                    return
            raise AssertionError("the deadline is refused for ever")

    asyncio.run(run())
    assert gated.batches == []


def test_a_request_without_time_for_the_next_stage_is_answered_at_once(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    slow = Latency([1], [[1e-3], [60.0], [60.0], [60.0]])
    urgent = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)

    async def run() -> None:
        async with engine_of(gated, manifest, latency=slow) as engine:
            (answer,) = await classify(engine, images(1, 1), urgent)
            assert (answer.exit, answer.deadline_hit) == (1, True)
            assert answer.total < 20
            assert engine.counted("full", "deadline") == 1

    asyncio.run(run())
    assert gated.batches == [(0, 1)]


def test_a_deadline_too_short_for_the_requests_before_it_is_refused_at_once(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    urgent = Policy("low", "low", AT_ONCE.thresholds, deadline=5.0)

    async def run() -> None:
        each_a_second = Latency([1, 8], [[1.0, 8.0]] * 4)
        async with engine_of(gated, manifest, threads=1, latency=each_a_second) as engine:
            gated.shut(0)
            calls = [asyncio.create_task(classify(engine, images(1, 1), urgent))]
            await until(lambda: engine.pool.free == 63 and engine.scheduler.waiting == 0)
            for waiting in range(1, 5):
                calls.append(asyncio.create_task(classify(engine, images(1, 1), urgent)))
                await until(lambda: engine.scheduler.waiting == waiting)  # noqa: B023 (it is over)
            with pytest.raises(DeadlineError, match="no time to reach the first exit"):
                await classify(engine, images(1, 1), urgent)
            assert engine.counted("low", "expired") == 1
            gated.open()
            await asyncio.gather(*calls)

    asyncio.run(run())


def test_a_deadline_that_is_met_changes_nothing(
    runtime: Runtime, manifest: Manifest, images: MakeImages
) -> None:
    relaxed = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)

    async def run() -> list[Answer]:
        async with engine_of(runtime, manifest) as engine:
            return await classify(engine, images(8, 1), relaxed)

    assert all(a.exit == 4 and not a.deadline_hit for a in asyncio.run(run()))
