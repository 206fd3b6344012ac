"""Copies of requests, whatever they are for: their slots, their ends, and what drops them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter

import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.background.copies import GATHERED, End, gathered
from serving.engine.request import Call, Request
from serving.engine.scheduling.scheduler import Scheduler
from tests.serving.audits import auditing
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    MakeImages,
    WatchedEngine,
    classify,
    engine_of,
    until,
)
from tests.serving.servers import GatedRuntime

Ends = list[tuple[int, int, End]]  # slot, stages run and end of each copy


def start(
    engine: WatchedEngine, images: MakeImages, done: Callable[[Request, End], None]
) -> Request:
    """Run a copy of a request that passed no stage."""
    with engine.admit(1, AT_ONCE) as slots:
        slot = slots.pop()
    engine.pool.put(slot, images(1, slot)[0])
    call = Call(asyncio.get_running_loop().create_future())
    request = Request(AT_ONCE, slot, perf_counter(), perf_counter(), call)
    if not engine.copies.start(request, NEVER_EARLY, done):
        engine.admission.give([slot])
    engine.stage_threads.wake()
    return request


def test_a_copy_runs_as_its_own_policy_says_and_gives_its_slot_back(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    ends: Ends = []

    async def run() -> None:
        async with engine_of(gated, promising, audits=auditing(promising)) as engine:
            note = lambda copy, end: ends.append((copy.slot, copy.stage, end))  # noqa: E731
            request = start(engine, images, note)
            await until(lambda: engine.pool.free == engine.pool.slots)
            assert ends == [(request.slot, 4, "finished")]
            assert request.opinions == []

    asyncio.run(run())
    assert gated.batches == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_copies_that_wait_for_others_run_once_the_engine_is_idle(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    """No request and no other copy comes, so a thread has to look by itself."""
    scheduler = partial(Scheduler, gather=8)

    async def run() -> None:
        async with engine_of(
            gated, promising, threads=1, audits=auditing(promising), scheduler=scheduler
        ) as engine:
            await classify(engine, images(3, 1), AT_ONCE)
            await until(lambda: engine.pool.free == engine.pool.slots)

    asyncio.run(run())
    assert gated.batches == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_at_most_half_of_the_copies_wait_for_others() -> None:
    assert [gathered(slots) for slots in (1, 31, 64, 256)] == [1, 1, 4, GATHERED]


def test_the_newest_copies_are_dropped_first_and_only_if_that_frees_enough(
    gated: GatedRuntime, promising: Manifest, images: MakeImages
) -> None:
    ends: Ends = []

    async def run() -> None:
        async with engine_of(gated, promising, audits=auditing(promising)) as engine:
            gated.shut(0)
            note = lambda copy, end: ends.append((copy.slot, copy.stage, end))  # noqa: E731
            first = start(engine, images, note)
            await until(gated.entered[0].is_set)
            others = [start(engine, images, note).slot for _ in range(3)]
            assert not engine.copies.make_room(5)
            assert ends == []
            assert engine.copies.make_room(2)
            assert [slot for slot, _, end in ends if end == "dropped"] == others[:0:-1]
            engine.copies.close()
            assert ends[2:] == [(others[0], 0, "stopped"), (first.slot, 0, "stopped")]
            assert engine.pool.free == 63  # the first is in a batch
            start(engine, images, note)
            assert len(engine.copies) == 0
            gated.open()
            await until(lambda: engine.pool.free == 64)
            assert len(ends) == 4

    asyncio.run(run())


def test_an_error_at_the_end_of_a_copy_is_logged_and_loses_no_slot(
    gated: GatedRuntime,
    promising: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    async def run() -> None:
        async with engine_of(gated, promising, audits=auditing(promising)) as engine:
            start(engine, images, fail)
            await until(lambda: engine.pool.free == 64)

    asyncio.run(run())
    assert "the end of a copy was not counted" in caplog.text
