"""Chunks run to the answers that the engine gives, image by image."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from offramp.in_process.chunk_runner import ChunkRunner
from offramp.inputs.images import Pixels
from serving.engine.opinion import score_of
from serving.engine.policy import Policy, resolve
from serving.engine.request import Answer
from serving.errors import StageError
from serving.runtime.cpu import CpuRuntime
from serving.settings import Layout
from tests.serving.engines import BUDGETS, classify, engine_of
from tests.serving.small_bundle import random_images

GREY = np.full((32, 32, 3), 128, np.uint8)  # the network divides by the length 0 of its features


def by_engine(folder: Path, images: Sequence[Pixels], policy: Policy) -> list[Answer]:
    manifest = read_manifest(folder)

    async def run() -> list[Answer]:
        async with engine_of(CpuRuntime(folder, manifest), manifest) as engine:
            return await classify(engine, images, policy)

    return asyncio.run(run())


def same(one: Answer | StageError, other: Answer) -> bool:
    """Return whether two answers are equal, but for times and the rounding of other batches."""
    assert isinstance(one, Answer)
    if (one.flops, one.exit, one.policy) != (other.flops, other.exit, other.policy):
        return False
    for mine, theirs in zip(one.opinions, other.opinions, strict=True):
        if mine is None or theirs is None:
            assert mine is theirs
        else:
            np.testing.assert_allclose(mine.probabilities, theirs.probabilities, atol=2e-6)
            np.testing.assert_allclose(mine.confidence, theirs.confidence, atol=2e-6)
            np.testing.assert_allclose(score_of(mine), score_of(theirs), atol=2e-5)
            assert (mine.score is None) == (theirs.score is None)
    return True


@pytest.mark.parametrize("max_batch", [1, 7, 64])
@pytest.mark.parametrize("layout", ["native", "portable"])
@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("budget", BUDGETS)
def test_answers_equal_those_of_the_engine(
    bundle: Path, manifest: Manifest, budget: str, explain: bool, layout: Layout, max_batch: int
) -> None:
    policy = resolve(manifest, budget, explain=explain)
    runner = ChunkRunner(CpuRuntime(bundle, manifest, layout), manifest, 64, max_batch)
    images = [*random_images(60, 1)]
    expected = by_engine(bundle, images, policy)
    for start, end in ((0, 60), (0, 1), (1, 23), (23, 60)):  # the runner serves one after another
        answers = runner.run(images[start:end], policy, 0.0)
        assert all(map(same, answers, expected[start:end]))


def test_scores_are_those_of_the_engine(reject_bundle: Path) -> None:
    manifest = read_manifest(reject_bundle)
    runner = ChunkRunner(CpuRuntime(reject_bundle, manifest), manifest, 40, 8)
    images = [*random_images(40, 2)]
    for reject in (True, False):
        policy = resolve(manifest, "medium", reject=reject)
        answers = runner.run(images, policy, 0.0)
        expected = by_engine(reject_bundle, images, policy)
        assert all(map(same, answers, expected))
    assert len({answer.exit for answer in expected}) > 1


@pytest.mark.parametrize("budget", ["low", "full"])
def test_an_output_that_is_not_finite_is_an_error_of_its_image(
    bundle: Path, manifest: Manifest, budget: str
) -> None:
    images = [*random_images(20, 3)]
    images[3] = images[19] = GREY
    runner = ChunkRunner(CpuRuntime(bundle, manifest), manifest, 20, 8)
    answers = runner.run(images, resolve(manifest, budget), 0.0)
    errors = [row for row, answer in enumerate(answers) if isinstance(answer, StageError)]
    assert errors == [3, 19]


def test_a_policy_with_a_rule_of_its_own_decides(bundle: Path, manifest: Manifest) -> None:
    class SecondExit(Policy):
        def decide(self, opinion: object, earlier: object) -> bool:  # noqa: ARG002
            return len(earlier) == 1  # type: ignore[arg-type]

    policy = SecondExit("low", "low", (0.0, 0.0, 0.0, 0.0))
    runner = ChunkRunner(CpuRuntime(bundle, manifest), manifest, 8, 8)
    answers = runner.run([*random_images(8, 4)], policy, 0.0)
    assert [answer.exit for answer in answers if isinstance(answer, Answer)] == [2] * 8


def test_times_add_up(bundle: Path, manifest: Manifest) -> None:
    runner = ChunkRunner(CpuRuntime(bundle, manifest), manifest, 30, 4)
    arrived = perf_counter()
    answers = runner.run([*random_images(30, 5)], resolve(manifest, "medium"), arrived)
    most = perf_counter() - arrived
    for answer in answers:
        assert isinstance(answer, Answer)
        assert answer.compute > 0
        assert answer.queue >= 0
        assert answer.queue + answer.compute <= answer.total <= most
