"""The comparison of a retrofitted bundle with the network that it was made from."""

from __future__ import annotations

import numpy as np

from benchmarks.training.photos.full_depth import BOUND, centred, goals

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(20, 10))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def met(logits: np.ndarray) -> list[bool]:
    exponentials = np.exp(logits)
    return [
        goal.met for goal in goals(exponentials / exponentials.sum(1, keepdims=True), PROBABILITIES)
    ]


def test_logits_are_found_up_to_a_constant() -> None:
    np.testing.assert_allclose(
        centred(PROBABILITIES), LOGITS - LOGITS.mean(axis=1, keepdims=True), atol=1e-12
    )


def test_a_difference_below_the_bound_is_accepted_and_one_above_it_is_not() -> None:
    change = np.zeros_like(LOGITS)
    change[3, 4] = BOUND / 2
    assert met(LOGITS + change) == [True, True, True]
    change[3, 4] = BOUND * 2
    assert met(LOGITS + change) == [True, True, False]


def test_another_class_is_seen() -> None:
    swapped = LOGITS.copy()
    swapped[0] = swapped[0, ::-1]
    assert met(swapped) == [False, False, False]
