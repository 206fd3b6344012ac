from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.observe.exit_drift import MIN_ANSWERS, WINDOW, WINDOW_BYTES, ExitDrift, ExitWindow


def window(expected: Sequence[float]) -> ExitWindow:
    return ExitWindow(expected, memoryview(bytearray(WINDOW_BYTES)))


def values(drift: ExitDrift, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric by its label values."""
    (family,) = (family for family in drift.collect() if family.name == f"offramp_{name}")
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


@given(st.lists(st.integers(0, 3), max_size=40).map(lambda some: some * 30))
def test_the_shares_are_of_the_last_answers(stages: list[int]) -> None:
    ours = window((0.7, 0.1, 0.1, 0.1))
    for stage in stages:
        ours.add(stage)
    last = stages[-WINDOW:]
    if len(last) < MIN_ANSWERS:
        assert all(map(math.isnan, ours.seen()))
        assert math.isnan(ours.drift())
    else:
        assert ours.seen() == [last.count(k) / len(last) for k in range(4)]
        assert 0 <= ours.drift() <= 0.9 + 1e-9


def test_drift_is_0_for_equal_shares_and_1_for_disjoint_ones() -> None:
    ours = window((1.0, 0.0))
    for _ in range(MIN_ANSWERS):
        ours.add(0)
    assert ours.drift() == 0
    for _ in range(WINDOW):
        ours.add(1)
    assert ours.drift() == 1


def test_workers_with_one_file_have_one_window(tmp_path: Path) -> None:
    expected = {"low": (0.5, 0.5), "full": (0.0, 1.0)}
    one, two = (ExitDrift("net", expected, tmp_path / "shares") for _ in range(2))
    for _ in range(MIN_ANSWERS):
        one.add("low", 0)
        two.add("low", 1)
        two.add("numeric", 1)  # has no expected shares
    seen = values(one, "exit_share_seen")
    assert seen["net", "low", "1"] == seen["net", "low", "2"] == 0.5
    assert math.isnan(seen["net", "full", "2"])


def test_the_next_process_continues_the_window(tmp_path: Path) -> None:
    expected = {"low": (1.0, 0.0)}
    first = ExitDrift("net", expected, tmp_path / "shares")
    for _ in range(MIN_ANSWERS):
        first.add("low", 1)
    del first
    second = ExitDrift("net", expected, tmp_path / "shares")
    assert values(second, "exit_drift") == {("net", "low"): 1}


def test_without_budgets_there_are_no_shares(tmp_path: Path) -> None:
    for file in (None, tmp_path / "shares"):
        assert all(not family.samples for family in ExitDrift("net", {}, file).collect())


def test_more_exits_than_a_byte_can_count_are_refused() -> None:
    with pytest.raises(AssertionError):
        window([1 / 256] * 256)
