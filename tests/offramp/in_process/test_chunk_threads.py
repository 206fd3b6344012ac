"""Chunks in threads: their sizes, their order, and stages that fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from offramp.in_process.chunk_threads import ChunkThreads
from offramp.in_process.outcomes import Answered, Outcome
from offramp.in_process.settings import settings_from
from serving.engine.policy import resolve
from serving.errors import NotReadyError, StageError
from serving.runtime.base import StageOutput
from serving.runtime.cpu import CpuRuntime
from tests.serving.faulty import FaultError
from tests.serving.small_bundle import random_images

WHITE = np.full((32, 32, 3), 255, np.uint8)


class Runtime(CpuRuntime):
    """Notes the batches of the first stage, and fails with a white image in it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.batches: list[int] = []

    def run(self, stage: int, inputs: Any, *, head: bool = True) -> StageOutput:
        if stage == 0:
            images = inputs["image"]
            self.batches.append(len(images))
            if (images == WHITE).all(axis=(1, 2, 3)).any():
                raise FaultError
        return super().run(stage, inputs, head=head)


@pytest.fixture(scope="module")
def runtime(bundle: Path, manifest: Manifest) -> Runtime:
    return Runtime(bundle, manifest)


def run(
    runtime: Runtime, manifest: Manifest, images: Iterator[np.ndarray], **options: Any
) -> list[Outcome]:
    """Return the outcomes of images, and leave the batches of the first stage in the runtime."""
    runtime.batches.clear()
    options = {"bundle": ".", "threads": 2, "max_batch": 64, "slots": 256} | options
    threads = ChunkThreads(runtime, manifest, settings_from(**options))
    try:
        return list(threads.stream(images, resolve(manifest, "low")))
    finally:
        threads.close()


@pytest.mark.parametrize(
    ("images", "options", "chunks"),
    [
        (1, {}, [1]),
        (5, {}, [4, 1]),
        (32, {}, [16, 16]),
        (100, {}, [50, 50]),
        (130, {}, [33, 33, 32, 32]),
        (300, {}, [38, 38, 38, 38, 37, 37, 37, 37]),
        (130, {"max_batch": 4}, [4] * 25 + [3] * 10),
        (100, {"threads": 1}, [50, 50]),
        (32, {"threads": 16}, [4] * 8),
        (20, {"slots": 16}, [5, 5, 5, 5]),
        (3, {"slots": 1}, [1, 1, 1]),
    ],
)
def test_chunks_are_equal_and_fill_all_threads(
    runtime: Runtime,
    manifest: Manifest,
    images: int,
    options: dict[str, int],
    chunks: Sequence[int],
) -> None:
    outcomes = run(runtime, manifest, iter(random_images(images, 1)), **options)
    assert len(outcomes) == images
    assert sorted(runtime.batches, reverse=True) == chunks


def test_chunks_of_a_generator_are_large(runtime: Runtime, manifest: Manifest) -> None:
    images = (image for image in random_images(140, 2))
    assert len(run(runtime, manifest, images)) == 140
    assert sorted(runtime.batches) == [12, 64, 64]


def test_a_stage_that_fails_with_an_image_fails_no_other(
    runtime: Runtime, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    images = random_images(12, 3)
    images[4] = WHITE
    with caplog.at_level(logging.CRITICAL):
        outcomes = run(runtime, manifest, iter(images))
    failed = [number for number, each in enumerate(outcomes) if isinstance(each, StageError)]
    assert failed == [4]
    assert sum(isinstance(each, Answered) for each in outcomes) == 11


def test_outcomes_keep_the_order_of_images(runtime: Runtime, manifest: Manifest) -> None:
    images = random_images(200, 4)
    one_by_one = run(runtime, manifest, iter(images), threads=1, slots=1)
    many = run(runtime, manifest, iter(images), threads=8, slots=32)
    for one, other in zip(one_by_one, many, strict=True):
        assert isinstance(one, Answered)
        assert isinstance(other, Answered)
        np.testing.assert_allclose(
            one.answer.opinion.probabilities, other.answer.opinion.probabilities, atol=2e-6
        )


def test_closed_threads_refuse(bundle: Path, runtime: Runtime, manifest: Manifest) -> None:
    threads = ChunkThreads(runtime, manifest, settings_from(bundle=bundle))
    threads.close()
    threads.close()
    with pytest.raises(NotReadyError, match="closed"):
        next(threads.stream(iter(random_images(1, 5)), resolve(manifest, "low")))
