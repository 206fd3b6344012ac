"""Audits in an engine with the real runtime: what is compared, what is dropped, and the slots."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.policy import resolve
from serving.errors import PoolFullError
from serving.runtime.base import Runtime
from tests.serving.audits import STAGE_FLOPS
from tests.serving.engine.background.audited import (
    audited,
    classes,
    leaving_at_once,
    ledger_of,
    settled,
)
from tests.serving.engines import AT_ONCE, NEVER_EARLY, MakeImages, classify, engine_of, until
from tests.serving.servers import GatedRuntime


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
