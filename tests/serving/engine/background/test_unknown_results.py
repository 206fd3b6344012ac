"""Audits of requests that end before a comparison: each leaves an unknown result."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.audit.metrics import REASONS
from serving.engine.background.audits import Audits
from serving.engine.overload import OverloadDetector
from serving.engine.policy import resolve
from serving.errors import DeadlineError, PoolFullError, StageError
from serving.observe.metrics import Metrics
from serving.runtime.base import Runtime
from tests.serving.audits import Counted, auditing
from tests.serving.engine.background.audited import audited, ledger_of, settled
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    MakeImages,
    WatchedEngine,
    classify,
    engine_of,
    hang_up_under_way,
    new_engine,
    until,
)
from tests.serving.scheduling import request
from tests.serving.servers import GatedRuntime


def test_a_client_that_hangs_up_before_its_answer_leaves_an_unknown_result(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with audited(gated, promising) as (engine, counted):
            await hang_up_under_way(engine, gated, images(1, 1), 1)
            assert counted.dropped("full", "cancelled") == 1
            assert counted.audits("full") == {}

    asyncio.run(run())


def test_answers_that_a_deadline_or_overload_cut_short_leave_unknown_results(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    policy = resolve(promising, promise="99%")
    never = replace(policy, thresholds=NEVER_EARLY.thresholds)
    ledger = ledger_of(promising)

    async def run() -> None:
        overload = OverloadDetector(1e-9)
        async with audited(gated, promising, ledger=ledger, overload=overload) as (engine, counted):
            answers = await classify(engine, images(2, 1), never)
            assert {answer.degraded for answer in answers} == {True}
            gated.shut(2)
            (late,) = await classify(engine, images(1, 1), replace(never, deadline=0.3))
            assert late.deadline_hit
            gated.open()
            await settled(engine)
            assert counted.dropped("promise-99", "cut_short") == 3
            sequence = ledger.sequence("promise-99")
            assert (sequence.trials, sequence.unknown) == (3, 3)

    asyncio.run(run())


def test_a_request_that_expires_before_its_first_exit_leaves_an_unknown_result(
    runtime: Runtime, promising: Manifest
) -> None:
    made: list[Audits] = []

    def audits(metrics: Metrics) -> Audits:
        made.append(auditing(promising)(metrics))
        return made[0]

    async def run() -> None:
        async with engine_of(runtime, promising, audits=audits) as engine:
            late = request(NEVER_EARLY.thresholds, deadline=1.0)
            late.policy = replace(late.policy, name="full")
            made[0].draw([late])
            assert made[0].leave([late], "expired") == [late]
            assert Counted(engine).dropped("full", "cut_short") == 1

    asyncio.run(run())


def test_a_stage_that_fails_under_an_audit_fails_no_request(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with audited(gated, promising) as (engine, counted):
            gated.fail_at = 2
            assert len(await classify(engine, images(3, 1), AT_ONCE)) == 3
            await settled(engine)
            assert counted.dropped("low", "failed") == 3
            with pytest.raises(StageError):
                await classify(engine, images(1, 1), NEVER_EARLY)
            assert counted.dropped("full", "failed") == 1
            gated.fail_at = None
            await classify(engine, images(1, 1), AT_ONCE)
            await settled(engine)
            assert sum(counted.audits("low").values()) == 1

    asyncio.run(run())


def test_a_shutdown_drops_audits_and_waits_for_requests_only(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        engine = new_engine(gated, promising, audits=auditing(promising), max_batch=1)
        counted = Counted(engine)
        gated.shut(1)
        await classify(engine, images(3, 1), AT_ONCE)
        await until(lambda: engine.pool.free == 61 and gated.entered[1].is_set())
        held = asyncio.create_task(classify(engine, images(1, 2), NEVER_EARLY))
        await until(lambda: engine.pool.free == 60)
        draining = asyncio.create_task(engine.drain(20))
        await until(lambda: engine.pool.free == 62)  # one audit and one request are in batches
        gated.open()
        assert len(await held) == 1
        assert await draining
        assert engine.pool.free == 64
        assert counted.dropped("low", "stopped") == 3

    asyncio.run(run())


def test_no_slot_is_lost_under_random_events(
    runtime: Runtime, promising: Manifest, images: MakeImages
) -> None:
    """Hang-ups, deadlines and few slots: each drawn request gives one result."""
    rng = np.random.default_rng(5)
    some, ledger = images(120, 13), ledger_of(promising)
    policies = [resolve(promising, promise=level) for level in ("99%", "95%")]

    async def one(engine: WatchedEngine, number: int) -> None:
        await asyncio.sleep(float(rng.uniform(0, 0.1)))
        deadline = float(rng.uniform(1e-3, 0.02)) if rng.random() < 0.3 else None
        policy = replace(policies[number % 2], deadline=deadline)
        with suppress(TimeoutError, DeadlineError, PoolFullError):
            async with asyncio.timeout(float(rng.uniform(0, 0.02)) if number % 3 else 30):
                await classify(engine, [some[number]], policy)

    async def run() -> tuple[float, int]:
        async with audited(runtime, promising, ledger=ledger, slots=16) as (engine, counted):
            await asyncio.gather(*(one(engine, number) for number in range(120)))
            await settled(engine)
            labels = ("promise-99", "promise-95")
            results = sum(sum(counted.audits(label).values()) for label in labels)
            results += sum(counted.dropped(b, r) for b in labels for r in REASONS)
            return results, sum(ledger.sequence(label).trials for label in labels)

    results, trials = asyncio.run(run())
    assert results == trials > 0
