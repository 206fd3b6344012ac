"""Audits in an engine with the real runtime: what is compared, what is dropped, and the slots."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Level
from serving.audit.ledger import Ledger
from serving.audit.metrics import REASONS
from serving.engine.background.audits import Audits
from serving.engine.background.ladder import ladders
from serving.engine.overload import OverloadDetector
from serving.engine.policy import Policy, Promised, resolve
from serving.engine.request import Answer
from serving.errors import DeadlineError, PoolFullError, StageError
from serving.observe.metrics import Metrics
from serving.runtime.base import Runtime
from serving.runtime.cpu import CpuRuntime
from tests.serving.audits import STAGE_FLOPS, Counted, auditing
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


@pytest.fixture(scope="module")
def promising(promise_bundle: Path) -> Manifest:
    return read_manifest(promise_bundle)


@pytest.fixture(scope="module")
def runtime(promise_bundle: Path, promising: Manifest) -> Runtime:
    return CpuRuntime(promise_bundle, promising)


@asynccontextmanager
async def audited(
    runtime: Runtime, manifest: Manifest, *, ledger: Ledger | None = None, **options: Any
) -> AsyncIterator[tuple[WatchedEngine, Counted]]:
    """An engine that audits every answer. At its end all slots have to be free."""
    options = {"slots": 256, "audits": auditing(manifest, ledger)} | options
    async with engine_of(runtime, manifest, **options) as engine:
        yield engine, Counted(engine)


async def settled(engine: WatchedEngine) -> None:
    """Wait until no slot is taken: all audits have ended."""
    await until(lambda: engine.pool.free == engine.pool.slots)


def ledger_of(manifest: Manifest) -> Ledger:
    return Ledger([ladder.promise for ladder in ladders(manifest, "keep")])


def leaving_at_once(manifest: Manifest) -> Policy:
    """Return the policy of a promise, with thresholds that all images reach."""
    return replace(resolve(manifest, promise="95%"), thresholds=AT_ONCE.thresholds)


def classes(answers: list[Answer]) -> list[int]:
    return [int(answer.opinion.probabilities.argmax()) for answer in answers]


def test_every_answer_is_compared_with_that_of_full_depth(
    runtime: Runtime, promising: Manifest, images: MakeImages
) -> None:
    some = images(24, 7)
    ledger = ledger_of(promising)
    policy = resolve(promising, promise="95%")

    async def run() -> None:
        async with audited(runtime, promising, ledger=ledger) as (engine, counted):
            full = classes(await classify(engine, some, NEVER_EARLY))
            answers = await classify(engine, some, policy)
            await settled(engine)
            agrees = [a == b for a, b in zip(classes(answers), full, strict=True)]
            exits = [answer.exit for answer in answers]
            assert len({*exits}) > 2
            assert {*agrees} == {False, True}
            assert counted.audits("promise-95") == Counter(zip(exits, agrees, strict=True))
            assert counted.audits("full") == {(4, True): 24}
            extra = sum(sum(STAGE_FLOPS[exit_:]) for exit_ in exits)
            assert counted.flops("promise-95") == extra
            sequence = ledger.sequence("promise-95")
            assert (sequence.known, sequence.losses) == (24, agrees.count(False))

    asyncio.run(run())


def test_answers_are_the_same_with_and_without_audits(
    runtime: Runtime, promising: Manifest, images: MakeImages
) -> None:
    some, policy = images(16, 3), resolve(promising, min_confidence=0.6)

    async def run() -> None:
        async with (
            engine_of(runtime, promising) as plain,
            audited(runtime, promising) as (engine, _),
        ):
            expected, found = (
                await classify(plain, some, policy),
                await classify(engine, some, policy),
            )
            for one, other in zip(expected, found, strict=True):
                assert (one.exit, one.flops) == (other.exit, other.flops)
                np.testing.assert_allclose(
                    one.opinion.probabilities, other.opinion.probabilities, atol=1e-5
                )

    asyncio.run(run())


def test_a_request_is_answered_before_its_audit_and_goes_before_other_audits(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with audited(gated, promising, threads=1) as (engine, counted):
            gated.shut(1)
            await classify(engine, images(2, 1), AT_ONCE)  # answered while its audit is held
            await until(gated.entered[1].is_set)
            late = asyncio.create_task(classify(engine, images(1, 2), AT_ONCE))
            await until(lambda: engine.scheduler.waiting == 1)
            gated.open()
            await late
            await settled(engine)
            assert gated.batches[:3] == [(0, 2), (1, 2), (0, 1)]
            assert sum(counted.audits("low").values()) == 3
            assert [
                head
                for (stage, _), head in zip(gated.batches, gated.heads, strict=True)
                if 0 < stage < 3
            ] == [False] * 4

    asyncio.run(run())


def test_a_request_that_needs_a_slot_gets_that_of_an_audit(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    ledger = ledger_of(promising)

    async def run() -> None:
        async with audited(gated, promising, ledger=ledger, slots=16) as (engine, counted):
            gated.shut(1)
            for number in range(2):
                await classify(engine, images(1, number), leaving_at_once(promising))
            await until(lambda: len(engine.copies) == 2)
            with engine.admit(15, AT_ONCE):
                assert engine.pool.free == 0
                assert len(engine.copies) == 1  # in a batch
            with pytest.raises(PoolFullError), engine.admit(17, AT_ONCE):
                pass
            assert len(engine.copies) == 1
            assert counted.dropped("promise-95", "slot") == 1
            gated.open()
            await settled(engine)
            sequence = ledger.sequence("promise-95")
            assert (sequence.trials, sequence.unknown) == (2, 1)

    asyncio.run(run())


def test_audits_take_an_eighth_of_the_slots_and_are_not_drawn_beyond(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with audited(gated, promising, slots=32) as (engine, counted):
            gated.shut(1)
            await classify(engine, images(12, 1), AT_ONCE)
            await until(lambda: engine.pool.free == 28)
            assert len(engine.copies) == 4
            gauges = engine.metrics.registry.get_sample_value
            assert gauges("offramp_slots_in_use") == 0
            gated.open()
            await settled(engine)
            assert sum(counted.audits("low").values()) == 4

    asyncio.run(run())


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


def test_a_broken_promise_is_answered_by_a_safer_point_that_the_answer_names(
    runtime: Runtime, promising: Manifest, images: MakeImages, tmp_path: Path
) -> None:
    policy = resolve(promising, promise="95%")
    file = tmp_path / "audits.json"

    async def run() -> list[Answer]:
        audits = auditing(promising, on_broken="safer", file=file)
        async with engine_of(runtime, promising, audits=audits) as engine:
            for number in range(100):
                answers = await classify(engine, images(8, number), policy)
                await settled(engine)
                promise = answers[0].policy.promise
                assert promise is not None
                if promise.answered_by == "full":
                    break
            return answers

    answers = asyncio.run(run())
    assert {answer.exit for answer in answers} == {4}
    assert answers[0].policy.promise == Promised(Level("agreement", 0.05), 0.05, True, "full")
    assert json.loads(file.read_text())["promises"]["promise-95"]["point"] == "full"
    (first, *_) = asyncio.run(run())  # after a restart
    assert first.policy.promise == answers[0].policy.promise


def test_a_broken_promise_that_is_kept_is_marked_in_its_answers(
    runtime: Runtime,
    promising: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = resolve(promising, promise="95%")
    ledger = ledger_of(promising)

    async def run() -> Answer:
        async with audited(runtime, promising, ledger=ledger) as (engine, _):
            while not ledger.position("promise-95").broken:
                await classify(engine, images(8, 1), policy)
                await settled(engine)
            return (await classify(engine, images(1, 1), policy))[0]

    answer = asyncio.run(run())
    assert answer.policy.thresholds == policy.thresholds
    assert answer.policy.promise == Promised(Level("agreement", 0.05), 0.05, True, None)
    assert caplog.text.count("promise-95 is broken") == 1


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
