"""The engine with the real runtime; where an order of events matters, behind gates."""

import asyncio
import time
from contextlib import suppress
from typing import Never

import numpy as np
import pytest

from serving.engine.latency import Latency
from serving.engine.policy import Policy, resolve
from serving.errors import DeadlineError, NotReadyError, PoolFullError
from serving.observe.metrics import OUTCOMES
from serving.runtime.cpu import Runtime
from tests.serving.engines import (
    AT_ONCE,
    BUDGETS,
    NEVER_EARLY,
    classify,
    engine_of,
    hang_up_under_way,
    until,
)


@pytest.fixture
def runtime(bundle, manifest):
    return Runtime(bundle, manifest)


def test_the_exit_is_the_first_that_is_confident_enough(runtime, manifest, images) -> None:
    policy = resolve(manifest, min_confidence=0.6)

    async def run():
        async with engine_of(runtime, manifest) as engine:
            return await classify(engine, images(32, 12), policy)

    answers = asyncio.run(run())
    for answer in answers:
        seen = [outcome.confidence for outcome in answer.opinions]
        assert all(confidence < 0.6 for confidence in seen[:-1])
        assert seen[-1] >= 0.6 or answer.exit == 4
        assert answer.total >= answer.compute > 0
        assert answer.queue >= 0
    assert len({answer.exit for answer in answers}) > 2


def test_a_full_pool_refuses_the_whole_call(gated, manifest, images) -> None:
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


def test_slots_that_were_not_used_come_back(runtime, manifest) -> None:
    async def run() -> None:
        async with engine_of(runtime, manifest, slots=4) as engine:
            with engine.admit(3, AT_ONCE):
                assert engine.pool.free == 1
            assert engine.pool.free == 4  # as where an image cannot be decoded

    asyncio.run(run())


def test_who_hangs_up_while_waiting_gives_the_slot_back_at_once(gated, manifest, images) -> None:
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


def test_who_hangs_up_before_the_images_are_decoded_is_counted(runtime, manifest) -> None:
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


def test_who_hangs_up_while_running_gives_the_slot_back_with_the_batch(
    gated, manifest, images
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            await hang_up_under_way(engine, gated, images(1, 1), 0)
            assert gated.batches == [(0, 1)]

    asyncio.run(run())


def test_at_the_deadline_the_deepest_exit_answers(gated, manifest, images) -> None:
    hurried = Policy("full", "full", NEVER_EARLY.thresholds, deadline=0.4)
    explained = Policy("full", "full", NEVER_EARLY.thresholds, explain=True)

    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            (full,) = await classify(engine, images(1, 1), explained)
            gated.shut(2)
            (answer,) = await classify(engine, images(1, 1), hurried)
            assert answer.deadline_hit
            assert answer.exit == 2
            assert 0.4 <= answer.total < 2
            np.testing.assert_array_equal(
                answer.opinions[1].probabilities, full.opinions[1].probabilities
            )
            assert engine.counted("full", "deadline") == 1
            gated.open()

    asyncio.run(run())


def test_a_deadline_before_the_first_exit_is_an_error(gated, manifest, images) -> None:
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=0.4)

    async def run() -> None:
        async with engine_of(gated, manifest, max_batch=1, threads=1) as engine:
            gated.shut(0)
            with pytest.raises(DeadlineError, match="before the first exit"):
                await classify(engine, images(2, 1), hurried)
            await until(lambda: engine.pool.free == 63)  # one ran, one waited
            gated.open()
            await until(lambda: engine.pool.free == 64)
            assert gated.batches == [(0, 1)]
            assert engine.counted("low", "expired") == 2

    asyncio.run(run())


def test_a_deadline_that_has_passed_at_the_door_runs_nothing(gated, manifest, images) -> None:
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=0.05)

    async def run() -> None:
        async with engine_of(gated, manifest) as engine:
            with pytest.raises(DeadlineError):
                await classify(engine, images(1, 1), hurried, arrived=time.perf_counter() - 1)

    asyncio.run(run())
    assert gated.batches == []


def test_a_deadline_too_short_for_the_first_exit_is_refused_at_the_door(gated, manifest) -> None:
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=0.5)

    async def run() -> None:
        async with engine_of(gated, manifest, latency=Latency([1], [[1.0]] * 4)) as engine:
            with (
                pytest.raises(DeadlineError, match="no time to reach the first exit"),
                engine.admit(2, hurried),
            ):
                raise AssertionError
            assert engine.counted("low", "expired") == 2
            for _ in range(200):  # what no batch can test is doubted
                with suppress(DeadlineError), engine.admit(1, hurried):
                    return
            raise AssertionError("it never tries again")

    asyncio.run(run())
    assert gated.batches == []


def test_who_has_no_time_for_the_next_stage_is_answered_at_once(gated, manifest, images) -> None:
    slow = Latency([1], [[1e-3], [60.0], [60.0], [60.0]])
    hurried = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)

    async def run() -> None:
        async with engine_of(gated, manifest, latency=slow) as engine:
            (answer,) = await classify(engine, images(1, 1), hurried)
            assert (answer.exit, answer.deadline_hit) == (1, True)
            assert answer.total < 20
            assert engine.counted("full", "deadline") == 1

    asyncio.run(run())
    assert gated.batches == [(0, 1)]


def test_a_refusal_says_when_slots_should_be_free(gated, manifest) -> None:
    async def run() -> Never:
        async with engine_of(gated, manifest, slots=4) as engine:
            rate, now = engine.admission.drain_rate, time.perf_counter()
            rate.freed(now - 9.5, 1)
            rate.freed(now - 5, 1)  # two in 9.5 seconds
            with (
                engine.admit(4, AT_ONCE),
                pytest.raises(PoolFullError) as caught,
                engine.admit(2, AT_ONCE),
            ):
                raise AssertionError
            assert caught.value.headers == {"Retry-After": "10"}

    asyncio.run(run())


def test_a_deadline_too_short_for_those_before_it_is_refused_at_the_door(
    gated, manifest, images
) -> None:
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=5.0)

    async def run() -> None:
        each_a_second = Latency([1, 8], [[1.0, 8.0]] * 4)
        async with engine_of(gated, manifest, threads=1, latency=each_a_second) as engine:
            gated.shut(0)
            calls = [asyncio.create_task(classify(engine, images(1, 1), hurried))]
            await until(lambda: engine.pool.free == 63 and engine.scheduler.waiting == 0)
            for waiting in range(1, 5):
                calls.append(asyncio.create_task(classify(engine, images(1, 1), hurried)))
                await until(lambda: engine.scheduler.waiting == waiting)  # noqa: B023 (it is over)
            with pytest.raises(DeadlineError, match="no time to reach the first exit"):
                await classify(engine, images(1, 1), hurried)
            assert engine.counted("low", "expired") == 1
            gated.open()
            await asyncio.gather(*calls)

    asyncio.run(run())


def test_a_deadline_that_is_kept_changes_nothing(runtime, manifest, images) -> None:
    relaxed = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)

    async def run():
        async with engine_of(runtime, manifest) as engine:
            return await classify(engine, images(8, 1), relaxed)

    assert all(a.exit == 4 and not a.deadline_hit for a in asyncio.run(run()))


def test_draining_lets_calls_end_and_takes_no_more(gated, manifest, images) -> None:
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


def test_chaos_loses_nobody(runtime, manifest, images) -> None:
    """Hang-ups, deadlines and refusals at random: every request ends once, every slot is free."""
    rng = np.random.default_rng(5)
    some = images(300, 13)

    async def one(engine, image):
        await asyncio.sleep(float(rng.uniform(0, 0.2)))
        deadline = float(rng.uniform(1e-4, 0.02)) if rng.random() < 0.3 else None
        policy = resolve(manifest, BUDGETS[rng.integers(4)])
        policy = Policy(policy.name, policy.asked, policy.thresholds, deadline)
        patience = float(rng.uniform(0, 0.01)) if rng.random() < 0.3 else 30
        try:
            async with asyncio.timeout(patience):
                await classify(engine, [image], policy)
        except (TimeoutError, DeadlineError, PoolFullError) as error:
            return type(error)
        return None

    async def run():
        async with engine_of(runtime, manifest, slots=16) as engine:
            ends = await asyncio.gather(*(one(engine, image) for image in some))
            await until(lambda: engine.pool.free == 16)
            return ends, {b: {o: engine.counted(b, o) for o in OUTCOMES} for b in BUDGETS}

    ends, counted = asyncio.run(run())
    total = {o: sum(counted[b][o] for b in BUDGETS) for o in OUTCOMES}
    assert sum(total.values()) == 300
    assert total["failed"] == 0
    assert total["refused"] == ends.count(PoolFullError)
    # A client may hang up in the very moment in which its request ends otherwise.
    assert total["cancelled"] <= ends.count(TimeoutError)
    assert total["expired"] >= ends.count(DeadlineError)
    assert total["answered"] + total["deadline"] >= ends.count(None)
