from hypothesis import given
from hypothesis import strategies as st

from serving.engine.overload import LONGEST_WAIT, DrainRate, Lag, OverloadDetector


def test_come_again_when_enough_slots_should_be_free() -> None:
    rate = DrainRate()
    assert rate.seconds_until(5, 0.0) == 1  # nothing is known yet
    for tenth in range(64):
        rate.freed(tenth / 10, 1)  # ten a second
    assert rate.seconds_until(5, 6.4) == 1
    assert rate.seconds_until(35, 6.4) == 4


def test_it_forgets_and_counts_the_time_since() -> None:
    rate = DrainRate()
    for _ in range(100):
        rate.freed(0.0, 1000)
    for second in range(64):
        rate.freed(float(second), 2)
    assert rate.seconds_until(20, 64.0) == 10
    assert rate.seconds_until(20, 90.0) == 18  # nobody left for half a minute
    assert rate.seconds_until(20, 1e4) == 1  # all that is known is of another time


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 100))), st.integers(1, 10**6))
def test_it_is_a_whole_number_within_bounds(ends, slots) -> None:
    rate = DrainRate()
    for now, count in sorted(ends):
        rate.freed(now, count)
    seconds = rate.seconds_until(slots, 1e6)
    assert isinstance(seconds, int)
    assert 1 <= seconds <= LONGEST_WAIT


def test_high_water_has_hysteresis() -> None:
    water = OverloadDetector(1.0)
    levels = [0.9, 1.1, 0.6, 0.4, 0.9, 1.1]
    assert [water.update(lambda level=level: level) for level in levels] == [
        False,
        True,
        True,
        False,
        False,
        True,
    ]


def test_without_a_mark_it_is_never_reached_nor_measured() -> None:
    assert not OverloadDetector(None).update(lambda: 1 / 0)


def test_the_lag_follows_what_is_seen_and_doubt_lowers_it() -> None:
    lag = Lag()
    for _ in range(200):
        lag.seen(0.02)
    assert 0.0199 < lag.seconds <= 0.02
    lag.seen(0.0)
    assert 0.018 < lag.seconds < 0.02
    for _ in range(200):
        lag.decay()
    assert lag.seconds < 1e-6
