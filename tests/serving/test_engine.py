"""The engine with the real runtime; where an order of events matters, behind gates."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from copy import deepcopy

import numpy as np
import pytest

from serving.engine import Engine
from serving.errors import DeadlineError, NotReadyError, PoolFullError, StageError
from serving.latency import Latency
from serving.metrics import OUTCOMES, Metrics, Model
from serving.overload import DrainRate, HighWater
from serving.policy import Policy, resolve
from serving.pool import Pool
from serving.runtime import Runtime
from serving.scheduler import Scheduler

NEVER_EARLY = Policy("full", "full", (2.0, 2.0, 2.0, 0.0))
AT_ONCE = Policy("low", "low", (0.0, 0.0, 0.0, 0.0))
BUDGETS = ("low", "medium", "high", "full")
LINEAR = Latency([1, 8], [[1e-4, 8e-4]] * 4)  # nothing is gained by larger batches
CONSTANT = Latency([1, 8], [[1e-4, 1e-4]] * 4)  # everything is


@asynccontextmanager
async def engine_of(
    runtime,
    manifest,
    *,
    slots=64,
    max_batch=8,
    threads=2,
    latency=LINEAR,
    high_water=None,
):
    expected = dict.fromkeys(BUDGETS, (0.25,) * 4)
    metrics = Metrics(
        Model("m", "1", "fp32", "cpu", 4, manifest.full_flops, expected, ("min_confidence",))
    )
    pool = Pool(runtime.inputs, runtime.features, slots)
    scheduler = Scheduler(deepcopy(latency), max_batch)
    engine = Engine(runtime, pool, scheduler, metrics, manifest.flops_of, threads, high_water)
    engine.metrics, engine.pool, engine.scheduler = metrics, pool, scheduler
    yield engine
    await asyncio.wait_for(engine.drain(), 20)
    assert pool.free == slots


async def classify(engine, images, policy, arrived=None):
    arrived = time.perf_counter() if arrived is None else arrived
    with engine.admit(len(images), policy) as slots:
        return await engine.answer(slots, images, policy, arrived)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for knows of no event
            await asyncio.sleep(0.001)


def ended(engine, budget, outcome):
    labels = {"budget": budget, "outcome": outcome}
    return engine.metrics.registry.get_sample_value("offramp_requests_total", labels)


@pytest.fixture
def runtime(bundle, manifest):
    return Runtime(bundle, manifest)


def test_answers_do_not_depend_on_company(runtime, manifest, images):
    many = images(64, 11)
    policies = [resolve(manifest, BUDGETS[i % 4]) for i in range(64)]

    async def alone():
        async with engine_of(runtime, manifest) as engine:
            pairs = zip(many, policies, strict=True)
            return [(await classify(engine, [image], policy))[0] for image, policy in pairs]

    async def together():
        async with engine_of(runtime, manifest) as engine:
            calls = (classify(engine, [i], p) for i, p in zip(many, policies, strict=True))
            return [answers[0] for answers in await asyncio.gather(*calls)]

    one, other = asyncio.run(alone()), asyncio.run(together())
    assert {answer.exit for answer in one} == {1, 2, 3, 4}
    for a, b in zip(one, other, strict=True):
        assert a.exit == b.exit
        np.testing.assert_allclose(
            a.opinions[-1].probabilities, b.opinions[-1].probabilities, atol=1e-5
        )


def test_the_exit_is_the_first_that_is_confident_enough(runtime, manifest, images):
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


@pytest.mark.parametrize(
    ("latency", "batches"),
    [
        # Deepest first: the four survivors of each batch of eight run on before the next batch.
        (LINEAR, [(0, 8), (1, 4), (2, 4), (3, 4)] * 2),
        # Where it pays, they wait for those of the next batch.
        (CONSTANT, [(0, 8), (0, 8), (1, 8), (2, 8), (3, 8)]),
    ],
)
def test_what_arrives_together_runs_together_and_survivors_merge(
    gated, manifest, images, latency, batches
):
    async def run():
        async with engine_of(gated, manifest, threads=1, latency=latency) as engine:
            mixed = [NEVER_EARLY if i % 2 else AT_ONCE for i in range(16)]
            gated.batches.clear()
            calls = [classify(engine, [im], p) for im, p in zip(images(16, 1), mixed, strict=True)]
            await asyncio.gather(*calls)

    asyncio.run(run())
    assert gated.batches == batches


def test_two_threads_run_two_batches_at_once(gated, manifest, images):
    async def run():
        async with engine_of(gated, manifest, max_batch=1, threads=2) as engine:
            gated.shut(3)
            calls = [
                asyncio.create_task(classify(engine, [image], NEVER_EARLY))
                for image in images(3, 1)
            ]
            await until(lambda: gated.batches.count((2, 1)) == 2 and engine._threads.running == 2)
            assert gated.batches.count((0, 1)) == 2  # the third waits: no thread is free
            gated.open()
            await asyncio.gather(*calls)

    asyncio.run(run())


def test_a_full_pool_refuses_the_whole_call(gated, manifest, images):
    async def run():
        async with engine_of(gated, manifest, slots=4) as engine:
            gated.shut(0)
            first = asyncio.create_task(classify(engine, images(3, 1), AT_ONCE))
            await until(lambda: engine.pool.free == 1)
            with pytest.raises(PoolFullError):
                await classify(engine, images(2, 2), AT_ONCE)
            assert engine.pool.free == 1
            assert ended(engine, "low", "refused") == 2
            gated.open()
            assert len(await first) == 3
            assert len(await classify(engine, images(4, 2), AT_ONCE)) == 4

    asyncio.run(run())


def test_slots_that_were_not_used_come_back(runtime, manifest):
    async def run():
        async with engine_of(runtime, manifest, slots=4) as engine:
            with engine.admit(3, AT_ONCE):
                assert engine.pool.free == 1
            assert engine.pool.free == 4  # as where an image cannot be decoded

    asyncio.run(run())


def test_who_hangs_up_while_waiting_gives_the_slot_back_at_once(gated, manifest, images):
    async def run():
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
            assert ended(engine, "low", "cancelled") == 2

    asyncio.run(run())


def test_who_hangs_up_before_the_images_are_decoded_is_counted(runtime, manifest):
    async def scenario():
        async with engine_of(runtime, manifest) as engine:
            decoding = asyncio.Event()

            async def call():
                with engine.admit(3, AT_ONCE):
                    decoding.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(call())
            await decoding.wait()
            task.cancel()
            await asyncio.wait([task])
            assert ended(engine, "low", "cancelled") == 3
            assert engine.pool.free == 64

    asyncio.run(scenario())


def test_who_hangs_up_while_running_gives_the_slot_back_with_the_batch(gated, manifest, images):
    async def run():
        async with engine_of(gated, manifest) as engine:
            gated.shut(0)
            call = asyncio.create_task(classify(engine, images(1, 1), NEVER_EARLY))
            await until(gated.entered[0].is_set)
            call.cancel()
            await asyncio.sleep(0.02)
            assert engine.pool.free == 63  # the stage still writes there
            gated.open()
            await until(lambda: engine.pool.free == 64)
            assert gated.batches == [(0, 1)]

    asyncio.run(run())


def test_at_the_deadline_the_deepest_exit_answers(gated, manifest, images):
    hurried = Policy("full", "full", NEVER_EARLY.thresholds, deadline=0.4)
    explained = Policy("full", "full", NEVER_EARLY.thresholds, explain=True)

    async def run():
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
            assert ended(engine, "full", "deadline") == 1
            gated.open()

    asyncio.run(run())


def test_a_deadline_before_the_first_exit_is_an_error(gated, manifest, images):
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=0.4)

    async def run():
        async with engine_of(gated, manifest, max_batch=1, threads=1) as engine:
            gated.shut(0)
            with pytest.raises(DeadlineError, match="before the first exit"):
                await classify(engine, images(2, 1), hurried)
            await until(lambda: engine.pool.free == 63)  # one ran, one waited
            gated.open()
            await until(lambda: engine.pool.free == 64)
            assert gated.batches == [(0, 1)]
            assert ended(engine, "low", "expired") == 2

    asyncio.run(run())


def test_a_deadline_that_has_passed_at_the_door_runs_nothing(gated, manifest, images):
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=0.05)

    async def run():
        async with engine_of(gated, manifest) as engine:
            with pytest.raises(DeadlineError):
                await classify(engine, images(1, 1), hurried, arrived=time.perf_counter() - 1)

    asyncio.run(run())
    assert gated.batches == []


def test_a_deadline_too_short_for_the_first_exit_is_refused_at_the_door(gated, manifest):
    hurried = Policy("low", "low", AT_ONCE.thresholds, deadline=0.5)

    async def run():
        async with engine_of(gated, manifest, latency=Latency([1], [[1.0]] * 4)) as engine:
            with pytest.raises(DeadlineError, match="no time to reach the first exit"):
                with engine.admit(2, hurried):
                    raise AssertionError
            assert ended(engine, "low", "expired") == 2
            for _ in range(200):  # what no batch can test is doubted
                with suppress(DeadlineError), engine.admit(1, hurried):
                    return
            raise AssertionError("it never tries again")

    asyncio.run(run())
    assert gated.batches == []


def test_who_has_no_time_for_the_next_stage_is_answered_at_once(gated, manifest, images):
    slow = Latency([1], [[1e-3], [60.0], [60.0], [60.0]])
    hurried = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)

    async def run():
        async with engine_of(gated, manifest, latency=slow) as engine:
            (answer,) = await classify(engine, images(1, 1), hurried)
            assert (answer.exit, answer.deadline_hit) == (1, True)
            assert answer.total < 20
            assert ended(engine, "full", "deadline") == 1

    asyncio.run(run())
    assert gated.batches == [(0, 1)]


def test_heads_run_only_where_somebody_asks(gated, manifest, images):
    explained = Policy("full", "full", NEVER_EARLY.thresholds, explain=True)

    async def run():
        async with engine_of(gated, manifest, threads=1) as engine:
            gated.heads.clear()
            (full,) = await classify(engine, images(1, 1), NEVER_EARLY)
            assert gated.heads == [False, False, False, True]
            assert [opinion is None for opinion in full.opinions] == [True, True, True, False]
            gated.heads.clear()
            pair = [classify(engine, images(1, 1), p) for p in (NEVER_EARLY, explained)]
            (unasked,), (asked,) = await asyncio.gather(*pair)
            assert gated.heads == [True] * 4
            assert None not in asked.opinions
            assert unasked.opinions[:3] == (None,) * 3  # its company changes nothing
            return full, asked

    full, asked = asyncio.run(run())
    np.testing.assert_allclose(full.opinion.probabilities, asked.opinion.probabilities, atol=1e-5)


def test_under_overload_requests_leave_at_their_next_exit(gated, manifest, images):
    water = HighWater(0.005)  # seconds: four stages of 1e-4 for each request that waits

    async def run():
        async with engine_of(gated, manifest, threads=1, high_water=water) as engine:
            calls = [classify(engine, [image], NEVER_EARLY) for image in images(40, 1)]
            answers = [answer for (answer,) in await asyncio.gather(*calls)]
            early = [answer for answer in answers if answer.degraded]
            assert early
            assert all(answer.exit < 4 for answer in early)
            assert all(answer.exit == 4 for answer in answers if not answer.degraded)
            assert ended(engine, "full", "degraded") == len(early)
            assert ended(engine, "full", "answered") == 40 - len(early)
            (calm,) = await classify(engine, images(1, 1), NEVER_EARLY)
            assert not calm.degraded

    asyncio.run(run())


def test_a_refusal_says_when_slots_should_be_free(gated, manifest, images):
    async def run():
        async with engine_of(gated, manifest, slots=4) as engine:
            engine._drain_rate = rate = DrainRate()
            now = time.perf_counter()
            rate.freed(now - 9.5, 1)
            rate.freed(now - 5, 1)  # two in 9.5 seconds
            with engine.admit(4, AT_ONCE), pytest.raises(PoolFullError) as caught:
                with engine.admit(2, AT_ONCE):
                    raise AssertionError
            assert caught.value.headers == {"Retry-After": "10"}

    asyncio.run(run())


def test_a_deadline_that_is_kept_changes_nothing(runtime, manifest, images):
    relaxed = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)

    async def run():
        async with engine_of(runtime, manifest) as engine:
            return await classify(engine, images(8, 1), relaxed)

    assert all(a.exit == 4 and not a.deadline_hit for a in asyncio.run(run()))


def test_a_stage_that_fails_fails_its_batch_alone(gated, manifest, images, caplog):
    async def run():
        async with engine_of(gated, manifest, threads=1) as engine:
            gated.fail_at = 1
            calls = [
                classify(engine, images(2, 1), NEVER_EARLY),
                classify(engine, images(2, 2), AT_ONCE),
            ]
            failed, fine = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(failed, StageError)
            assert [answer.exit for answer in fine] == [1, 1]
            gated.fail_at = None
            assert (await classify(engine, images(1, 1), NEVER_EARLY))[0].exit == 4
            assert ended(engine, "full", "failed") == 2

    asyncio.run(run())
    assert "stage 2 failed" in caplog.text
    assert "the device fell over" in caplog.text


def test_a_confidence_that_is_no_number_fails_its_request_alone(gated, manifest, images):
    real = gated.run

    def run_with_nan(stage, inputs, *, head=True):
        output = real(stage, inputs, head=head)
        if stage == 0:
            output.confidence[0] = np.nan
        return output

    gated.run = run_with_nan
    never_sure = Policy("full", "full", (1.0, 1.0, 1.0, 0.0))

    async def run():
        async with engine_of(gated, manifest, threads=1) as engine:
            calls = [classify(engine, [image], never_sure) for image in images(3, 1)]
            return await asyncio.gather(*calls, return_exceptions=True)

    first, *others = asyncio.run(run())
    assert isinstance(first, StageError)
    assert [answers[0].exit for answers in others] == [4, 4]


def test_draining_lets_calls_end_and_takes_no_more(gated, manifest, images):
    async def run():
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


def test_chaos_loses_nobody(runtime, manifest, images):
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
            return ends, {b: {o: ended(engine, b, o) for o in OUTCOMES} for b in BUDGETS}

    ends, counted = asyncio.run(run())
    total = {o: sum(counted[b][o] for b in BUDGETS) for o in OUTCOMES}
    assert sum(total.values()) == 300
    assert total["failed"] == 0
    assert total["refused"] == ends.count(PoolFullError)
    # A client may hang up in the very moment in which its request ends otherwise.
    assert total["cancelled"] <= ends.count(TimeoutError)
    assert total["expired"] >= ends.count(DeadlineError)
    assert total["answered"] + total["deadline"] >= ends.count(None)
