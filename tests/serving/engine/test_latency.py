from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.latency import Latency
from serving.runtime.base import sizes_up_to

seconds = st.floats(0.3, 10.0)


def model() -> Latency:
    return Latency(
        [1, 4, 8], [[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]], [[0.5, 1.0, 3.0], [1.0, 1.0, 1.0]]
    )


@pytest.mark.parametrize(
    ("batch", "expected"),
    [(0, 0.0), (0.5, 0.5), (1, 1.0), (2.5, 1.5), (4, 2.0), (6, 4.0), (8, 6.0), (12, 9.0)],
)
def test_times_are_interpolated_between_the_sizes_and_extrapolated_beyond(
    batch: float, expected: float
) -> None:
    assert model().time(0, batch) == pytest.approx(expected)


def test_a_stage_without_its_head_has_times_of_its_own() -> None:
    assert model().time(0, 4, head=False) == 1.0
    assert Latency([1, 2], [[1.0, 2.0]]).time(0, 2, head=False) == 2.0


def test_one_request_alone_takes_the_time_of_all_stages() -> None:
    assert model().alone() == 4.0


@pytest.mark.parametrize(
    ("seconds", "size"), [(0.5, 1), (1.0, 1), (1.4, 2), (4.0, 6), (9.0, 8), (math.inf, 8)]
)
def test_the_requests_of_a_batch_that_fit_run_within_a_time(seconds: float, size: int) -> None:
    assert model().fitting(0, 8, seconds) == size


def test_a_single_size_scales() -> None:
    one = Latency([2], [[3.0]])
    assert [one.time(0, size) for size in (1, 2, 4)] == [3.0, 3.0, 6.0]


def test_batches_that_are_filled_up_take_the_time_of_the_next_size() -> None:
    filled = Latency([1, 4, 8], [[1.0, 2.0, 6.0]], filled=True)
    times = [filled.time(0, batch) for batch in (0.5, 1, 1.5, 3, 4, 4.1, 8, 12)]
    assert times == [0.5, 1.0, 2.0, 2.0, 2.0, 6.0, 6.0, 9.0]
    for _ in range(1000):
        filled.observe(0, 3, 4.0)
    assert filled.time(0, 4) == pytest.approx(4.0, rel=0.05)


def test_a_batch_is_filled_up_if_its_rest_is_worth_it() -> None:
    filled = Latency([1, 4, 8], [[1.0, 2.0, 3.0]], filled=True)
    assert [filled.best(0, batch) for batch in (1, 2, 3, 4, 5, 6, 7, 8)] == [1, 1, 3, 4, 4, 4, 7, 8]
    assert [model().best(0, batch) for batch in (1, 5, 8)] == [1, 5, 8]


@pytest.mark.parametrize(
    ("idle", "sizes"), [(0, [1, 4, 8]), (1, [1, 4, 4]), (3, [1, 4, 2]), (7, [1, 4, 1])]
)
def test_a_batch_is_split_for_idle_threads_if_a_part_ends_sooner(
    idle: int, sizes: list[int]
) -> None:
    latency = Latency([1, 4, 8], [[1.0, 1.05, 6.0]])
    assert [latency.split(0, batch, idle) for batch in (1, 4, 8)] == sizes


def test_the_whole_network_has_times_of_its_own() -> None:
    assert model().whole_network is None
    latency = Latency([1, 4], [[1.0, 2.0]] * 2, whole_network=[1.5, 3.0])
    assert latency.stages == 2
    assert latency.whole_network is not None
    latency.whole_network.observe(0, 4, 6.0)
    assert latency.whole_network.time(0, 4) > 3.0
    assert [latency.time(stage, 4) for stage in (0, 1)] == [2.0, 2.0]


@given(st.integers(1, 8), seconds)
def test_times_approach_what_is_observed_and_other_stages_stay(batch: int, seen: float) -> None:
    latency = model()
    for _ in range(1000):
        latency.observe(0, batch, seen)
    assert latency.time(0, batch) == pytest.approx(seen, rel=0.05)
    assert latency.time(1, batch) == 3.0
    assert latency.time(0, 4, head=False) == 1.0


@given(st.floats(1e-9, 1e9))
def test_one_extreme_observation_changes_little(seen: float) -> None:
    latency = model()
    latency.observe(0, 4, seen)
    assert 1.9 <= latency.time(0, 4) <= 2.11


def test_decay_lowers_a_time_down_to_a_bound() -> None:
    latency = model()
    measured = latency.time(0, 1)
    latency.decay(0)
    assert 0.99 * measured < latency.time(0, 1) < measured
    for _ in range(10_000):
        latency.decay(0)
    assert latency.time(0, 1) == 0.25 * measured
    assert latency.time(1, 1) == 3.0


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_sizes_to_measure_are_powers_of_two_and_the_largest(largest: int, sizes: list[int]) -> None:
    assert sizes_up_to(largest) == sizes
