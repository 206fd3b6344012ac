"""The stage threads, under a real engine: which batches run, and who leaves them how."""

import asyncio
from typing import Never

import numpy as np
import pytest

from serving.engine.overload import OverloadDetector
from serving.engine.policy import Policy, resolve
from serving.errors import StageError
from serving.runtime.cpu import Runtime
from tests.serving.engines import (
    AT_ONCE,
    BUDGETS,
    CONSTANT,
    LINEAR,
    NEVER_EARLY,
    WHOLE_NETWORK,
    classify,
    engine_of,
    hang_up_under_way,
    new_engine,
    until,
)


@pytest.fixture
def runtime(bundle, manifest):
    return Runtime(bundle, manifest)


def test_answers_do_not_depend_on_company(runtime, manifest, images) -> None:
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
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, latency=latency) as engine:
            mixed = [NEVER_EARLY if i % 2 else AT_ONCE for i in range(16)]
            gated.batches.clear()
            calls = [classify(engine, [im], p) for im, p in zip(images(16, 1), mixed, strict=True)]
            await asyncio.gather(*calls)

    asyncio.run(run())
    assert gated.batches == batches


def test_two_threads_run_two_batches_at_once(gated, manifest, images) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, max_batch=1, threads=2) as engine:
            gated.shut(3)
            calls = [
                asyncio.create_task(classify(engine, [image], NEVER_EARLY))
                for image in images(3, 1)
            ]
            await until(lambda: gated.batches.count((2, 1)) == 2 and engine.stage_threads.running == 2)
            assert gated.batches.count((0, 1)) == 2  # the third waits: no thread is free
            gated.open()
            await asyncio.gather(*calls)

    asyncio.run(run())


def test_heads_run_only_where_somebody_asks(gated, manifest, images) -> None:
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


def test_who_asks_no_exit_but_the_last_goes_through_all_stages_at_once(
    gated, manifest, images
) -> None:
    explained = Policy("full", "full", NEVER_EARLY.thresholds, explain=True)
    some = images(8, 1)

    async def run():
        async with engine_of(gated, manifest, threads=1, latency=WHOLE_NETWORK) as engine:
            whole_network = await classify(engine, some, NEVER_EARLY)
            assert (gated.whole, gated.batches) == ([8], [])
            staged = await classify(engine, some, explained)
            assert gated.batches == [(stage, 8) for stage in range(4)]
            hurried = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)
            calls = (classify(engine, some[:2], policy) for policy in (NEVER_EARLY, hurried))
            await asyncio.gather(*calls)
            await classify(engine, some[:1], NEVER_EARLY)  # it was but now
            assert gated.whole == [8]
            return whole_network, staged

    for one, other in zip(*asyncio.run(run()), strict=True):
        assert (one.exit, one.opinions[:3]) == (other.exit, (None,) * 3)
        assert 0 < one.compute <= one.total
        np.testing.assert_allclose(
            one.opinion.probabilities, other.opinion.probabilities, atol=1e-5
        )


def test_the_way_through_may_fail_or_be_left_halfway(gated, manifest, images, caplog) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, latency=WHOLE_NETWORK) as engine:
            gated.fail_at = 2
            with pytest.raises(StageError):
                await classify(engine, images(2, 1), NEVER_EARLY)
            assert engine.counted("full", "failed") == 2
            gated.fail_at = None
            await hang_up_under_way(engine, gated, images(3, 1), 2)
            assert (await classify(engine, images(1, 1), NEVER_EARLY))[0].exit == 4
            assert gated.whole == [2, 3, 1]

    asyncio.run(run())
    assert "all stages failed" in caplog.text


def test_under_overload_requests_leave_at_their_next_exit(gated, manifest, images) -> None:
    water = OverloadDetector(0.005)  # seconds: four stages of 1e-4 for each request that waits

    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, overload=water) as engine:
            calls = [classify(engine, [image], NEVER_EARLY) for image in images(40, 1)]
            answers = [answer for (answer,) in await asyncio.gather(*calls)]
            early = [answer for answer in answers if answer.degraded]
            assert early
            assert all(answer.exit < 4 for answer in early)
            assert all(answer.exit == 4 for answer in answers if not answer.degraded)
            assert engine.counted("full", "degraded") == len(early)
            assert engine.counted("full", "answered") == 40 - len(early)
            (calm,) = await classify(engine, images(1, 1), NEVER_EARLY)
            assert not calm.degraded

    asyncio.run(run())


def test_a_stage_that_fails_fails_its_batch_alone(gated, manifest, images, caplog) -> None:
    async def run() -> None:
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
            assert engine.counted("full", "failed") == 2

    asyncio.run(run())
    assert "stage 2 failed" in caplog.text
    assert "the device fell over" in caplog.text


def test_features_that_cannot_be_kept_fail_the_batch(runtime, manifest, images, caplog) -> None:
    async def run() -> None:
        async with engine_of(runtime, manifest) as engine:

            def full(*_) -> Never:
                raise MemoryError

            engine.pool.scatter = full
            with pytest.raises(StageError):
                await classify(engine, images(1, 1), NEVER_EARLY)
            assert engine.counted("full", "failed") == 1

    asyncio.run(run())
    assert "stage 1 failed" in caplog.text


def test_a_confidence_that_is_no_number_fails_its_request_alone(gated, manifest, images) -> None:
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


def test_threads_that_are_never_used_do_not_exist_and_a_closed_loop_ends_them(
    gated, manifest, images, wait_until
) -> None:
    async def leave_behind():
        engine = new_engine(gated, manifest)
        assert engine.stage_threads.started == 0
        gated.shut(0)
        call = asyncio.create_task(classify(engine, images(1, 1), AT_ONCE))
        await until(gated.entered[0].is_set)
        call.cancel()
        return engine.stage_threads

    threads = asyncio.run(leave_behind())
    assert threads.started == 2
    gated.open()
    wait_until(lambda: threads.started < 2)
