from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.budgets.estimates import estimate_mean, estimate_share, rising


@given(st.integers(20, 10_000), st.floats(0, 1))
def test_the_interval_of_a_share_contains_it_and_lies_in_0_to_1(images: int, share: float) -> None:
    estimate = estimate_share(share, images)
    assert 0 <= estimate.low <= share <= estimate.high <= 1


@pytest.mark.parametrize("share", [0.0, 0.002, 0.3, 0.95])
def test_shares_of_new_samples_fall_into_the_interval(share: float) -> None:
    rng = np.random.default_rng(0)
    images, missed = 2000, 0
    for _ in range(1500):
        old, new = rng.binomial(images, share, 2) / images
        missed += not estimate_share(float(old), images).within(float(new))
    assert missed <= 8, "0.1 % of 1,500 is 1.5"


def test_means_of_new_samples_fall_into_the_interval() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(1500):
        old, new = rng.choice([10.0, 50.0, 100.0], (2, 500), p=[0.6, 0.3, 0.1])
        missed += not estimate_mean(old.mean(), old.std(), 500).within(new.mean())
    assert missed <= 8


@settings(max_examples=30)
@given(st.lists(st.floats(-10, 10), max_size=30))
def test_the_closest_rising_sequence_is_that_of_scipy(values: list[float]) -> None:
    from scipy.optimize import isotonic_regression  # late: takes seconds

    found = rising(np.array(values, dtype=np.float64))
    assert (np.diff(found) >= 0).all()
    expected = isotonic_regression(values).x if values else []
    assert found == pytest.approx(np.array(expected), abs=1e-9)
