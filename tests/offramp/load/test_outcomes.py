"""Metrics computed from outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.load.outcomes import (
    NO_ANSWER,
    OK,
    Outcomes,
    completed,
    percentile,
    poisson,
)


def outcomes(
    due: Sequence[float], done: Sequence[float], status: int | Sequence[int] = OK
) -> Outcomes:
    times = np.array(due, np.float64)
    empty: dict[str, Any] = {f.name: np.zeros(len(due), np.int64) for f in fields(Outcomes)}
    return replace(
        Outcomes(**empty),
        due=times,
        sent=times,
        done=np.array(done, np.float64),
        status=np.broadcast_to(np.array(status, np.int64), len(due)),
    )


@given(st.lists(st.floats(0, 1e3), min_size=1), st.floats(0.1, 100))
def test_percentile_is_the_smallest_value_that_this_share_does_not_exceed(
    values: list[float], percent: float
) -> None:
    found = percentile(np.array(values), percent)
    within = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert found in values
    assert within >= len(values) * percent / 100 - 1e-9
    assert below < len(values) * percent / 100 + 1e-9


def test_percentile_without_values_is_nan() -> None:
    assert np.isnan(percentile(np.array([]), 50))


def test_latency_counts_from_the_due_time_not_from_the_time_of_sending() -> None:
    late = replace(outcomes([0.0], [3.0]), sent=np.array([2.0]))
    assert late.percentile(50) == 3.0


def test_goodput_counts_answers_within_the_slo() -> None:
    found = outcomes([0, 1, 2, 3], [0.1, 1.3, 2.1, 3.1], [OK, OK, OK, NO_ANSWER])
    assert found.goodput(slo=0.2, seconds=4) == 0.5
    assert found.between(2, 4).goodput(slo=0.2, seconds=2) == 0.5


def test_completed_counts_answers_by_the_time_of_their_end() -> None:
    found = outcomes([0, 0, 0, 0], [0.5, 1.5, 2.5, 1.6], [OK, OK, OK, 429])
    assert completed(found, 1, 3) == 1.0


def test_accuracy_is_over_answers_only() -> None:
    found = outcomes([0, 0, 0], [1, 1, 1], [OK, OK, 429])
    found = replace(found, image=np.array([0, 1, 2]), index=np.array([7, 7, 7]))
    assert found.accuracy(np.array([7, 8, 7])) == 0.5


def test_poisson_arrivals_are_independent() -> None:
    times = poisson(500, 100, np.random.default_rng(0))
    gaps = np.diff(times)
    assert times[0] >= 0
    assert times[-1] < 100
    assert len(times) == pytest.approx(50_000, rel=0.02)
    # exponential gaps: the deviation equals the mean, and neighbours are uncorrelated
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02
