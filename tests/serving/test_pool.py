import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import PoolFullError
from serving.manifest import TensorSpec
from serving.pool import Pool

IMAGE = TensorSpec(name="image", dtype="uint8", shape=(3, 5, 3))
FINE = TensorSpec(name="fine", dtype="float32", shape=(2, 4, 4))
COARSE = TensorSpec(name="coarse", dtype="float16", shape=(3,))
INPUTS = [(IMAGE,), (FINE, COARSE), (COARSE,)]
FEATURES = [(FINE, COARSE), (), ()]


def some(spec, rows, seed):
    values = np.random.default_rng(seed).integers(0, 250, (rows, *spec.shape))
    return values.astype(spec.dtype)


@given(st.permutations(range(6)), st.integers(1, 6))
def test_what_is_put_into_slots_comes_out_and_neighbours_stay(order, rows):
    pool = Pool(INPUTS, FEATURES, 6)
    every = list(range(6))
    before = {spec.name: some(spec, 6, 0) for spec in (FINE, COARSE)}
    pool.scatter(0, every, before)
    slots = order[:rows]
    fresh = {spec.name: some(spec, rows, 1) for spec in (FINE, COARSE)}
    pool.scatter(0, slots, fresh)
    got = pool.gather(1, every)
    for name, expected in before.items():
        expected[slots] = fresh[name]
        np.testing.assert_array_equal(got[name], expected)
        assert got[name].dtype == expected.dtype
        assert got[name].flags.c_contiguous
    np.testing.assert_array_equal(pool.gather(2, every)["coarse"], before["coarse"])


def test_an_image_is_put_and_gathered_as_it_is():
    pool = Pool(INPUTS, FEATURES, 3)
    image = some(IMAGE, 1, 2)[0]
    pool.put(2, image)
    gathered = pool.gather(0, [2, 2])
    assert list(gathered) == ["image"]
    np.testing.assert_array_equal(gathered["image"], [image, image])


def test_every_tensor_has_its_place():
    assert Pool(INPUTS, FEATURES, 10).nbytes == 10 * (64 + 128 + 64)


def test_slots_are_taken_all_or_none_and_given_back():
    pool = Pool(INPUTS, FEATURES, 4)
    first = pool.take(3)
    with pytest.raises(PoolFullError, match="needs 2 of 4 slots and 1 are free"):
        pool.take(2)
    assert pool.free == 1
    (last,) = pool.take(1)
    assert sorted([*first, last]) == [0, 1, 2, 3]
    pool.give(last)
    assert pool.take(1) == [last]


def test_giving_what_was_not_taken_is_our_own_mistake():
    with pytest.raises(AssertionError):
        Pool(INPUTS, FEATURES, 2).give(0)
