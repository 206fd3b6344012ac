import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.observe.exit_drift import ENOUGH, SIZE, WINDOW, ExitDrift, ExitShares


def shares(expected):
    return ExitShares(expected, memoryview(bytearray(SIZE)))


@given(st.lists(st.integers(0, 3), max_size=40).map(lambda some: some * 30))
def test_the_shares_are_of_the_last_answers(stages) -> None:
    ours = shares((0.7, 0.1, 0.1, 0.1))
    for stage in stages:
        ours.add(stage)
    last = stages[-WINDOW:]
    if len(last) < ENOUGH:
        assert all(map(math.isnan, ours.seen()))
        assert math.isnan(ours.drift())
    else:
        assert ours.seen() == [last.count(k) / len(last) for k in range(4)]
        assert 0 <= ours.drift() <= 0.9 + 1e-9


def test_a_drift_of_nothing_and_of_all() -> None:
    ours = shares((1.0, 0.0))
    for _ in range(ENOUGH):
        ours.add(0)
    assert ours.drift() == 0
    for _ in range(WINDOW):
        ours.add(1)
    assert ours.drift() == 1


def test_a_file_is_one_window_for_all(tmp_path) -> None:
    expected = {"low": (0.5, 0.5), "full": (0.0, 1.0)}
    one, two = (ExitDrift("net", expected, tmp_path / "shares") for _ in range(2))
    for _ in range(ENOUGH):
        one.add("low", 0)
        two.add("low", 1)
        two.add("numeric", 1)  # nothing is expected of it
    seen = next(family for family in one.collect() if family.name == "offramp_exit_share_seen")
    values = {tuple(sample.labels.values()): sample.value for sample in seen.samples}
    assert values["net", "low", "1"] == values["net", "low", "2"] == 0.5
    assert math.isnan(values["net", "full", "2"])


def test_a_successor_finds_what_was_there(tmp_path) -> None:
    expected = {"low": (1.0, 0.0)}
    first = ExitDrift("net", expected, tmp_path / "shares")
    for _ in range(ENOUGH):
        first.add("low", 1)
    del first
    second = ExitDrift("net", expected, tmp_path / "shares")
    assert second._budgets["low"].drift() == 1


def test_no_budgets_no_shares(tmp_path) -> None:
    for file in (None, tmp_path / "shares"):
        assert all(not family.samples for family in ExitDrift("net", {}, file).collect())


def test_more_exits_than_a_byte_counts_are_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError):
        shares([1 / 256] * 256)
