from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.overload import MAX_RETRY_SECONDS, DrainRate, Lag, OverloadDetector


def test_a_client_tries_again_when_enough_slots_are_expected_to_be_free() -> None:
    rate = DrainRate()
    assert rate.seconds_until(5, 0.0) == 1  # no end is known yet
    for tenth in range(64):
        rate.freed(tenth / 10, 1)  # ten a second
    assert rate.seconds_until(5, 6.4) == 1
    assert rate.seconds_until(35, 6.4) == 4


def test_the_drain_rate_forgets_old_ends_and_counts_the_time_since_the_last() -> None:
    rate = DrainRate()
    for _ in range(100):
        rate.freed(0.0, 1000)
    for second in range(64):
        rate.freed(float(second), 2)
    assert rate.seconds_until(20, 64.0) == 10
    assert rate.seconds_until(20, 90.0) == 18  # no request ended for half a minute
    assert rate.seconds_until(20, 1e4) == 1  # all known ends are too old


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 100))), st.integers(1, 10**6))
def test_the_time_to_try_again_is_a_whole_number_within_bounds(
    ends: list[tuple[float, int]], slots: int
) -> None:
    rate = DrainRate()
    for now, count in sorted(ends):
        rate.freed(now, count)
    seconds = rate.seconds_until(slots, 1e6)
    assert isinstance(seconds, int)
    assert 1 <= seconds <= MAX_RETRY_SECONDS


def test_overload_has_hysteresis() -> None:
    detector = OverloadDetector(1.0)
    levels = iter([0.9, 1.1, 0.6, 0.4, 0.9, 1.1])
    found = [detector.update(lambda: next(levels)) for _ in range(6)]
    assert found == [False, True, True, False, False, True]


def test_a_detector_without_a_limit_detects_nothing_and_measures_nothing() -> None:
    assert not OverloadDetector(None).update(lambda: 1 / 0)


def test_the_lag_follows_what_is_seen_and_decays_after_refusals() -> None:
    lag = Lag()
    for _ in range(200):
        lag.seen(0.02)
    assert 0.0199 < lag.seconds <= 0.02
    lag.seen(0.0)
    assert 0.018 < lag.seconds < 0.02
    for _ in range(200):
        lag.decay()
    assert lag.seconds < 1e-6
