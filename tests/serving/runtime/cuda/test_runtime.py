"""The runtime for CUDA, here on the CPU's provider: bound memory, sessions for each size, lanes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest
from serving.runtime.cuda.runtime import CudaRuntime
from serving.runtime.cuda.slots import CudaSlots
from tests.serving.runtime.devices import IMAGES, Expected, chain, exit_of, on_device, put

SLOT_COUNT = 6


@pytest.fixture(scope="module")
def small(bundle: Path, manifest: Manifest) -> tuple[CudaRuntime, CudaSlots]:
    return on_device(bundle, manifest, SLOT_COUNT, 4)


@pytest.fixture(scope="module")
def large(bundle: Path, manifest: Manifest) -> tuple[CudaRuntime, CudaSlots]:
    return on_device(bundle, manifest)


operations = st.one_of(
    st.tuples(st.just("arrive"), st.integers(0, len(IMAGES) - 1)),
    st.tuples(st.just("hang_up"), st.integers(0, SLOT_COUNT - 1)),
    st.tuples(
        st.just("run"),
        st.integers(0, 3),
        st.permutations(range(SLOT_COUNT)),
        st.lists(st.booleans(), min_size=SLOT_COUNT, max_size=SLOT_COUNT),
        st.booleans(),
    ),
)


class Traffic:
    """Requests on their way, as their slot, their stage and the number of their image."""

    def __init__(self, runtime: CudaRuntime, pool: CudaSlots, expected: Expected) -> None:
        self.runtime, self.pool, self.expected = runtime, pool, expected
        self.waiting: dict[int, tuple[int, int]] = {}

    def arrive(self, image: int) -> None:
        if self.pool.free:
            (slot,) = put(self.pool, [IMAGES[image]])
            self.waiting[slot] = (0, image)

    def hang_up(self, which: int) -> None:
        if self.waiting:
            slot = list(self.waiting)[which % len(self.waiting)]
            del self.waiting[slot]
            self.pool.give(slot)

    def run(self, stage: int, order: list[int], continues: list[bool], head: bool) -> None:
        slots = [slot for slot, (at, _) in self.waiting.items() if at == stage]
        slots = sorted(slots, key=lambda slot: order[slot])[:4]
        if not slots:
            return
        output = self.runtime.run(stage, self.pool.gather(stage, slots), head=head)
        assert not output.features
        images = [self.waiting[slot][1] for slot in slots]
        if head or stage == 3:
            wanted = self.expected[stage, images]
            probabilities, confidence = exit_of(output)
            np.testing.assert_allclose(probabilities, wanted, atol=1e-5)
            np.testing.assert_allclose(confidence, wanted.max(1), atol=1e-5)
        else:
            assert output.confidence is output.probabilities is None
        for slot, image in zip(slots, images, strict=True):
            del self.waiting[slot]
            if continues[slot] and stage < 3:
                self.waiting[slot] = (stage + 1, image)
            else:
                self.pool.give(slot)


@settings(max_examples=300, deadline=None)
@given(st.lists(operations, max_size=40))
def test_every_stage_reads_the_features_of_its_requests(
    small: tuple[CudaRuntime, CudaSlots], expected: Expected, steps: list[tuple[Any, ...]]
) -> None:
    runtime, pool = small
    traffic = Traffic(runtime, pool, expected)
    for image in range(4):
        traffic.arrive(image)
    for name, *arguments in steps:
        getattr(traffic, name)(*arguments)
    for slot in traffic.waiting:
        pool.give(slot)
    assert pool.free == SLOT_COUNT


@pytest.mark.parametrize("count", range(1, 9))
def test_batches_of_any_size_are_filled_up(
    large: tuple[CudaRuntime, CudaSlots], expected: Expected, count: int
) -> None:
    runtime, pool = large
    slots = put(pool, IMAGES[:count])
    outputs = chain(runtime, pool, slots)
    for slot in slots:
        pool.give(slot)
    assert runtime.batch_sizes == [1, 2, 4, 8]
    for output, wanted in zip(outputs, expected[:, :count], strict=True):
        assert exit_of(output)[0].shape == (count, 10)
        np.testing.assert_allclose(exit_of(output)[0], wanted, atol=1e-5)


def test_a_batch_that_is_filled_up_changes_no_other_request(
    bundle: Path, manifest: Manifest, expected: Expected
) -> None:
    """Requests that ran before it in the same lane still need their features."""
    runtime, pool = on_device(bundle, manifest, slots=7, max_batch=4)
    first = put(pool, IMAGES[:4])
    for stage in range(3):
        runtime.run(stage, pool.gather(stage, first))
    then = put(pool, IMAGES[4:7])
    for stage in range(2):
        runtime.run(stage, pool.gather(stage, then))
    found, _ = exit_of(runtime.run(3, pool.gather(3, first)))
    np.testing.assert_allclose(found, expected[3, :4], atol=1e-5)


def test_results_do_not_change_with_the_next_batch(
    small: tuple[CudaRuntime, CudaSlots], expected: Expected
) -> None:
    """They are not a view of memory that the next batch is bound to."""
    runtime, pool = small
    one, other = put(pool, IMAGES[:1]), put(pool, IMAGES[1:2])
    found, _ = exit_of(runtime.run(0, pool.gather(0, one)))
    runtime.run(0, pool.gather(0, other))
    np.testing.assert_allclose(found, expected[0, :1], atol=1e-5)
    for slot in (*one, *other):
        pool.give(slot)


def test_threads_use_the_same_sessions_in_lanes_of_their_own(
    bundle: Path, manifest: Manifest, expected: Expected
) -> None:
    runtime, pool = on_device(bundle, manifest, slots=24)
    slots = put(pool, IMAGES)
    batches = [slice(i, i + 3) for i in range(0, 24, 3)]

    def run(batch: slice) -> list[NDArray[np.float32]]:
        return [exit_of(output)[0] for output in chain(runtime, pool, slots[batch])]

    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            for batch, found in zip(batches, threads.map(run, batches), strict=True):
                np.testing.assert_allclose(found, expected[:, batch], atol=1e-5)
    assert all(lanes.idle <= 4 for lanes in runtime.stages[0].lanes.values())


def test_of_many_classes_the_likeliest_go_to_the_host(
    bundle: Path, manifest: Manifest, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.runtime.cuda.runtime.MOST_CLASSES", 3)
    runtime, pool = on_device(bundle, manifest)
    for output, wanted in zip(
        chain(runtime, pool, put(pool, IMAGES[:5])), expected[:, :5], strict=True
    ):
        probabilities, confidence = exit_of(output)
        best = np.argsort(-wanted, axis=1)[:, :3]
        np.testing.assert_array_equal(np.argsort(-probabilities, axis=1)[:, :3], best)
        assert ((probabilities > 0).sum(1) == 3).all()
        np.testing.assert_allclose(confidence, wanted.max(1), atol=1e-5)


def test_a_stage_that_cannot_run_is_named(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, pool = on_device(bundle, manifest, max_batch=2)
    runtime.warm_up(2)
    monkeypatch.setattr(pool, "spare", 99)  # no such row
    with pytest.raises(BundleError, match=r"stage1\.onnx: fails to run"):
        runtime.warm_up(1)
