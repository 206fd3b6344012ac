from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offramp.bundle.manifest import TensorSpec
from serving.errors import PoolFullError
from serving.runtime.slots import HostSlots

SLOTS = 6


Dtype = Literal["uint8", "float32", "float16"]


def spec(name: str, *shape: int, dtype: Dtype = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


IMAGE = spec("image", 3, 5, 3, dtype="uint8")
A, B, C = spec("a", 2, 4, 4), spec("b", 3, dtype="float16"), spec("c", 2, 4, 4)
# Two stages read `b`, and the second of them reads no other new tensor. The last stage reads the
# image again.
INPUTS = [(IMAGE,), (A, B), (B, C), (C, IMAGE)]
FEATURES = [(A, B), (C,), (), ()]


def pool_of(slots: int = SLOTS) -> HostSlots:
    return HostSlots(INPUTS, FEATURES, slots)


def some(tensor: TensorSpec, rows: int, seed: int) -> NDArray[np.generic]:
    values = np.random.default_rng(seed).integers(0, 250, (rows, *tensor.shape))
    return values.astype(tensor.dtype)


def image_of(seed: int) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = some(IMAGE, 1, seed)[0]
    return image


class Mirror:
    """Requests on their way, with the tensors that each has to find."""

    def __init__(self) -> None:
        self.pool = pool_of()
        self.waiting: dict[int, tuple[int, dict[str, NDArray[np.generic]]]] = {}  # stage, tensors
        self.serial = 0

    def arrive(self) -> None:
        if self.pool.free:
            (slot,) = self.pool.take(1)
            image = image_of(self.serial)
            self.pool.put(slot, image)
            self.waiting[slot] = (0, {"image": image})
            self.serial += 1

    def hang_up(self, which: int) -> None:
        if self.waiting:
            slot = list(self.waiting)[which % len(self.waiting)]
            del self.waiting[slot]
            self.pool.give(slot)

    def isolate(self, which: int) -> None:
        if self.waiting:
            self.pool.isolate([list(self.waiting)[which % len(self.waiting)]])

    def run(self, which: int, order: list[int], continues: list[bool]) -> None:
        stages = sorted({at for at, _ in self.waiting.values()})
        if not stages:
            return
        stage = stages[which % len(stages)]
        slots = [slot for slot, (at, _) in self.waiting.items() if at == stage]
        slots = sorted(slots, key=lambda slot: order[slot])[: 1 + order[0] % 4]
        got = self.pool.gather(stage, slots)
        assert list(got) == [tensor.name for tensor in INPUTS[stage]]
        for name, array in got.items():
            expected = np.stack([self.waiting[slot][1][name] for slot in slots])
            np.testing.assert_array_equal(array, expected)
            assert array.flags.c_contiguous
        self.serial += 1
        features = {t.name: some(t, len(slots), self.serial) for t in FEATURES[stage]}
        last = stage == len(INPUTS) - 1
        rows = [row for row, slot in enumerate(slots) if continues[slot] and not last]
        if rows:
            self.pool.scatter(stage, [slots[row] for row in rows], rows, features)
        for row, slot in enumerate(slots):
            tensors = self.waiting.pop(slot)[1]
            if row in rows:
                fresh = {name: array[row] for name, array in features.items()}
                self.waiting[slot] = (stage + 1, tensors | fresh)
            else:
                self.pool.give(slot)


operations = st.one_of(
    st.tuples(st.just("arrive")),
    st.tuples(st.just("hang_up"), st.integers(0, 5)),
    st.tuples(st.just("isolate"), st.integers(0, 5)),
    st.tuples(
        st.just("run"),
        st.integers(0, 3),
        st.permutations(range(SLOTS)),
        st.lists(st.sampled_from([True, True, False]), min_size=SLOTS, max_size=SLOTS),
    ),
)


@settings(max_examples=300)
@given(st.lists(operations, max_size=50))
def test_every_stage_reads_the_features_of_its_requests(steps: list[tuple[Any, ...]]) -> None:
    mirror = Mirror()
    for _ in range(4):
        mirror.arrive()
    for name, *arguments in steps:
        getattr(mirror, name)(*arguments)
        assert mirror.pool.free == SLOTS - len(mirror.waiting)
        assert mirror.pool.held <= mirror.pool.nbytes


def test_a_batch_that_continues_whole_is_not_copied() -> None:
    pool = pool_of()
    slots = pool.take(3)
    features = {tensor.name: some(tensor, 3, 0) for tensor in FEATURES[0]}
    pool.scatter(0, slots, [0, 1, 2], features)
    assert pool.gather(1, list(slots))["a"].base is features["a"]


def test_consecutive_rows_and_single_rows_are_not_copied() -> None:
    pool = pool_of()
    slots = pool.take(4)
    pool.put(slots[0], image_of(0))
    assert pool.gather(0, slots[:1])["image"].base is not None
    features = {tensor.name: some(tensor, 5, 0) for tensor in FEATURES[0]}
    pool.scatter(0, slots, [0, 1, 3, 4], features)
    for part in (slots[1:2], slots[2:4]):
        assert pool.gather(1, part)["a"].base is features["a"]


def test_the_memory_is_bounded() -> None:
    """`a` and `c` have 128 bytes each and are never held together, `b` has 6, the image 45."""
    pool = pool_of()
    assert pool.nbytes == SLOTS * (128 + 6 + 45)
    apart = HostSlots([(IMAGE,), (A,), (A, C)], [(A,), (C,), ()], SLOTS)  # here they are
    assert apart.nbytes == SLOTS * (128 + 128 + 45)


def test_rows_that_no_request_needs_are_dropped_if_memory_is_short() -> None:
    pool = pool_of()
    features = {tensor.name: some(tensor, 8, 0) for tensor in FEATURES[0]}
    slots = pool.take(2)
    pool.scatter(0, slots[:1], [5], features)
    pool.scatter(0, slots[1:], [2], features)  # two of 16 rows, with room for 6
    got = pool.gather(1, slots)
    np.testing.assert_array_equal(got["a"], features["a"][[5, 2]])
    pool.scatter(0, slots[:1], [5], features)
    pool.scatter(0, slots[1:], [2], features)
    assert pool.gather(1, slots[:1])["a"].base is not features["a"]


def test_a_slot_that_is_isolated_keeps_no_features_of_its_batch() -> None:
    """`a` and `b` of eight requests leave. Two stay, and one of them waits long."""
    pool = pool_of(16)
    features = {tensor.name: some(tensor, 8, 0) for tensor in FEATURES[0]}
    slots = pool.take(2)
    pool.scatter(0, slots, [5, 2], features)
    pool.isolate(slots[:1])
    assert pool.held == 8 * (128 + 6) + (128 + 6)
    pool.give(slots[1])
    assert pool.held == 128 + 6
    got = pool.gather(1, slots[:1])
    for name in ("a", "b"):
        np.testing.assert_array_equal(got[name], features[name][[5]])


def test_slots_are_taken_all_or_none_and_given_back() -> None:
    pool = pool_of(4)
    first = pool.take(3)
    with pytest.raises(PoolFullError, match="needs 2 of 4 slots and 1 are free"):
        pool.take(2)
    assert pool.free == 1
    (last,) = pool.take(1)
    assert Counter([*first, last]) == Counter(range(4))
    pool.give(last)
    assert pool.take(1) == [last]


def test_a_slot_that_is_not_taken_cannot_be_given_back() -> None:
    with pytest.raises(AssertionError):
        pool_of().give(0)
