"""Differences that are paired by seed and image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.training.evidence.paired import Difference, paired, right_of
from benchmarks.training.predictions import Trained
from training.evaluation.evaluate import Scored

RIGHT = np.array([[1.0, 0, 1, 0], [1, 1, 1, 0]])  # of two exits
BETTER = np.array([[1.0, 1, 1, 0], [1, 1, 1, 1]])


def compared(
    one: dict[str, NDArray[np.float64]], other: dict[str, NDArray[np.float64]]
) -> Difference:
    found = paired(one, other)
    assert found is not None
    return found


def test_differences_are_paired_by_seed_and_image() -> None:
    found = compared({"0": BETTER, "9": BETTER}, {"0": RIGHT, "1": RIGHT})
    np.testing.assert_allclose(found.mean, [25, 25])
    np.testing.assert_allclose(found.error, 100 * np.std([0, 0, 0, 1], ddof=1) / 2)
    assert paired({"9": BETTER}, {"0": RIGHT}) is None


def test_the_error_is_the_larger_of_that_over_images_and_over_seeds() -> None:
    found = compared({"0": BETTER, "1": RIGHT}, {"0": RIGHT, "1": RIGHT})
    np.testing.assert_allclose(found.mean, [12.5, 12.5])
    np.testing.assert_allclose(found.of_images, 100 * np.std([0] * 7 + [1], ddof=1) / np.sqrt(8))
    np.testing.assert_allclose(found.error, np.full(2, 12.5))


def test_rows_with_fewer_exits_are_compared_at_the_last() -> None:
    found = compared({"0": RIGHT[1:]}, {"0": RIGHT})
    np.testing.assert_allclose([*found.mean, *found.error], [0, 0])


def test_rows_with_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="different images"):
        paired({"0": RIGHT}, {"0": RIGHT[:, :3]})


def test_sets_of_images_are_joined() -> None:
    sets = (
        Scored(part.astype(np.float32), part > 0, np.array([1.0, 2.0])) for part in (RIGHT, BETTER)
    )
    trained = [Trained("joint", "seed0", *sets)]
    np.testing.assert_array_equal(right_of(trained, ["test"])["joint"]["seed0"], BETTER)
    both = right_of(trained, ["held_out", "test"])["joint"]["seed0"]
    np.testing.assert_array_equal(both, np.hstack([RIGHT, BETTER]))
