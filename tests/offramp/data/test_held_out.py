from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.data.errors import DatasetError
from offramp.data.held_out import default_held_out, few_warnings, in_random_order, split_by_class

class_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)
HELD, ORDER = [2, 4, 6, 18, 8, 23, 16, 15], [4, 1, 2, 5, 0, 3]
seeds = st.integers(0, 2**32 - 1)


def labelled(sizes: list[int], seed: int = 0) -> np.ndarray:
    targets = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).permutation(targets)


@given(class_sizes, seeds, st.data())
def test_each_class_keeps_training_images_and_is_held_out_in_proportion(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    possible = sum(sizes) - len(sizes)
    if possible == 0:
        return
    held_out = data.draw(st.integers(1, possible) | st.none())
    targets = labelled(sizes, seed)
    train, held = split_by_class(targets, held_out, seed)
    assert sorted([*train, *held]) == list(range(len(targets)))
    assert len(held) == (default_held_out(np.array(sizes)) if held_out is None else held_out)
    kept = np.bincount(targets[train], minlength=len(sizes))
    assert kept.min() >= 1
    given = np.bincount(targets[held], minlength=len(sizes))
    several = [k for k, size in enumerate(sizes) if size > 1]
    if len(held) >= len(several):
        assert all(given[k] for k in several)
    if all(size > 1 for size in sizes) and held_out is None and min(sizes) >= 10:
        assert np.abs(given - np.array(sizes) / 10).max() < 2


@pytest.mark.parametrize(
    ("sizes", "held_out"),
    [
        ([60] * 5, 30),
        ([5000] * 10, 5000),
        ([13] * 1000, 1300),
        ([2, 1], 1),
        ([1] * 9 + [3], 2),
        ([1] * 9 + [2], 1),
    ],
)
def test_the_default_is_a_tenth_and_at_most_5000(sizes: list[int], held_out: int) -> None:
    assert default_held_out(np.array(sizes)) == held_out


def test_the_split_is_the_same_on_every_machine() -> None:
    train, held = split_by_class(np.repeat([0, 1, 2], [12, 12, 1]), 8, 0)
    assert held.tolist() == HELD
    assert in_random_order(6, 1).tolist() == ORDER
    assert sorted(np.repeat([0, 1, 2], [12, 12, 1])[held].tolist()) == [0] * 4 + [1] * 4
    assert 24 in train


@pytest.mark.parametrize("held_out", [23, 25, 0])
def test_too_many_held_out_images_say_how_many_there_can_be(held_out: int) -> None:
    says = rf"held_out: {held_out} of 25 .* At most 22 can be held out; give fewer \(--held-out N\)"
    with pytest.raises(DatasetError, match=says):
        split_by_class(np.repeat([0, 1, 2], [12, 12, 1]), held_out, 0)


def test_classes_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match="At most 0 can be held out; each class has only one"):
        split_by_class(np.arange(3), None, 0)


def test_few_held_out_images_are_warned_of_with_the_number_that_would_do() -> None:
    (warning,) = few_warnings(30)
    assert warning == (
        "warning: only 30 held-out images: accuracies are known to ±18 points, and budgets can be "
        "worse than leaving at exit 1. 500 held-out images would do (±4 points): more images, or "
        "a larger --held-out"
    )
    assert not [*few_warnings(500)]
