"""The stage threads, under a real engine: the batches that run, and the requests that leave."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.latency import Latency
from serving.engine.overload import OverloadDetector
from serving.engine.policy import Policy, resolve
from serving.engine.request import Answer
from serving.engine.scheduling.turn_order import LEAST
from serving.engine.scheduling.turns import Turns
from serving.engine.stage_threads import StageThreads
from serving.runtime.base import Runtime, StageOutput, Tensors
from serving.runtime.cpu import CpuRuntime
from tests.serving.engines import (
    AT_ONCE,
    BUDGETS,
    CONSTANT,
    LINEAR,
    NEVER_EARLY,
    WHOLE_NETWORK,
    MakeImages,
    classify,
    engine_of,
    new_engine,
    until,
)
from tests.serving.servers import GatedRuntime, WaitUntil


def test_answers_do_not_depend_on_other_requests_in_the_batch(
    runtime: Runtime, manifest: Manifest, images: MakeImages
) -> None:
    many = images(64, 11)
    policies = [resolve(manifest, BUDGETS[i % 4]) for i in range(64)]

    async def alone() -> list[Answer]:
        async with engine_of(runtime, manifest) as engine:
            pairs = zip(many, policies, strict=True)
            return [(await classify(engine, [image], policy))[0] for image, policy in pairs]

    async def together() -> list[Answer]:
        async with engine_of(runtime, manifest) as engine:
            calls = (classify(engine, [i], p) for i, p in zip(many, policies, strict=True))
            return [answers[0] for answers in await asyncio.gather(*calls)]

    one, other = asyncio.run(alone()), asyncio.run(together())
    assert {answer.exit for answer in one} == {1, 2, 3, 4}
    for a, b in zip(one, other, strict=True):
        assert a.exit == b.exit
        np.testing.assert_allclose(a.opinion.probabilities, b.opinion.probabilities, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it for each thread")
def test_threads_that_run_stages_yield_to_the_event_loop(
    bundle: Path, manifest: Manifest, images: MakeImages
) -> None:
    seen: set[int] = set()

    class Watched(CpuRuntime):
        def run(self, stage: int, inputs: Tensors, *, head: bool = True) -> StageOutput:
            seen.add(os.getpriority(os.PRIO_PROCESS, 0))
            return super().run(stage, inputs, head=head)

    async def answered() -> None:
        async with engine_of(Watched(bundle, manifest), manifest) as engine:
            await classify(engine, images(1, 3), resolve(manifest, "low"))

    asyncio.run(answered())
    assert min(seen) > os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize(
    ("latency", "batches"),
    [
        # Deepest first: the four survivors of each batch of eight run on before the next batch.
        (LINEAR, [(0, 8), (1, 4), (2, 4), (3, 4)] * 2),
        # If it pays, they wait for those of the next batch.
        (CONSTANT, [(0, 8), (0, 8), (1, 8), (2, 8), (3, 8)]),
    ],
)
def test_what_arrives_together_runs_together_and_survivors_merge(
    gated: GatedRuntime,
    manifest: Manifest,
    images: MakeImages,
    latency: Latency,
    batches: list[tuple[int, int]],
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, latency=latency) as engine:
            mixed = [NEVER_EARLY if i % 2 else AT_ONCE for i in range(16)]
            gated.batches.clear()
            calls = [classify(engine, [im], p) for im, p in zip(images(16, 1), mixed, strict=True)]
            await asyncio.gather(*calls)

    asyncio.run(run())
    assert gated.batches == batches


def test_two_threads_run_two_batches_at_once(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, max_batch=1, threads=2) as engine:
            gated.shut(3)
            calls = [
                asyncio.create_task(classify(engine, [image], NEVER_EARLY))
                for image in images(3, 1)
            ]
            await until(
                lambda: gated.batches.count((2, 1)) == 2 and engine.stage_threads.running == 2
            )
            assert gated.batches.count((0, 1)) == 2  # the third waits: no thread is free
            gated.open()
            await asyncio.gather(*calls)

    asyncio.run(run())


def test_heads_run_only_if_a_policy_evaluates_them(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    explained = Policy("full", "full", NEVER_EARLY.thresholds, explain=True)

    async def run() -> tuple[Answer, Answer]:
        async with engine_of(gated, manifest, threads=1) as engine:
            gated.heads.clear()
            (full,) = await classify(engine, images(1, 1), NEVER_EARLY)
            assert gated.heads == [False, False, False, True]
            assert [opinion is None for opinion in full.opinions] == [True, True, True, False]
            gated.heads.clear()
            pair = [classify(engine, images(1, 1), p) for p in (NEVER_EARLY, explained)]
            (without,), (explained_answer,) = await asyncio.gather(*pair)
            assert gated.heads == [True] * 4
            assert None not in explained_answer.opinions
            assert without.opinions[:3] == (None,) * 3  # other requests change nothing
            return full, explained_answer

    full, other = asyncio.run(run())
    np.testing.assert_allclose(full.opinion.probabilities, other.opinion.probabilities, atol=1e-5)


def test_requests_that_evaluate_the_last_exit_only_run_all_stages_at_once(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    explained = Policy("full", "full", NEVER_EARLY.thresholds, explain=True)
    some = images(8, 1)

    async def run() -> tuple[list[Answer], list[Answer]]:
        async with engine_of(gated, manifest, threads=1, latency=WHOLE_NETWORK) as engine:
            whole_network = await classify(engine, some, NEVER_EARLY)
            assert (gated.whole, gated.batches) == ([8], [])
            staged = await classify(engine, some, explained)
            assert gated.batches == [(stage, 8) for stage in range(4)]
            urgent = Policy("full", "full", NEVER_EARLY.thresholds, deadline=30)
            calls = (classify(engine, some[:2], policy) for policy in (NEVER_EARLY, urgent))
            await asyncio.gather(*calls)
            await classify(engine, some[:1], NEVER_EARLY)  # soon after a deadline
            assert gated.whole == [8]
            return whole_network, staged

    for one, other in zip(*asyncio.run(run()), strict=True):
        assert (one.exit, one.opinions[:3]) == (other.exit, (None,) * 3)
        assert 0 < one.compute <= one.total
        np.testing.assert_allclose(
            one.opinion.probabilities, other.opinion.probabilities, atol=1e-5
        )


def test_batches_are_short_while_another_model_computes(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    slow = Latency([1, 8], [[LEAST, 8 * LEAST]] * 4, whole_network=[4 * LEAST, 24 * LEAST])

    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, latency=slow) as engine:
            turns = Turns(2)
            engine.stage_threads.turns = turns.of("slow", slow.alone())
            await classify(engine, images(8, 1), NEVER_EARLY)
            for seconds in (9 * LEAST, 2.5 * LEAST):
                with turns.of("other", seconds).turn():
                    await classify(engine, images(4, 1), NEVER_EARLY)

    asyncio.run(run())
    assert gated.whole == [8, 2, 2]
    assert {size for _, size in gated.batches} == {2}


def test_under_overload_requests_leave_at_their_next_exit(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    detector = OverloadDetector(0.005)  # seconds: four stages of 1e-4 for each queued request

    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, overload=detector) as engine:
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


def test_threads_start_with_the_first_request_and_end_after_the_loop_is_closed(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, wait_until: WaitUntil
) -> None:
    async def leave_behind() -> StageThreads:
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
