"""The power of the best test: against its region, summed by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.promises.alarm_limits import most_alarms, table


def probabilities(share: float, audits: int) -> list[float]:
    return [
        math.comb(audits, k) * share**k * (1 - share) ** (audits - k) for k in range(audits + 1)
    ]


@pytest.mark.parametrize(("epsilon", "changed"), [(0.01, 0.021), (0.05, 0.0835)])
def test_the_limit_is_the_power_of_the_test_of_neyman_and_pearson(
    epsilon: float, changed: float
) -> None:
    """Fill the region of an alarm by hand, from the largest number of losses down."""
    level, audits = 0.02, 60
    left, expected = level, 0.0
    pairs = zip(probabilities(epsilon, audits), probabilities(changed, audits), strict=True)
    for false, found in reversed([*pairs]):
        share = min(1.0, left / false)
        left, expected = left - share * false, expected + share * found
    assert most_alarms(level, epsilon, changed, audits) == pytest.approx(expected)
    assert most_alarms(level, epsilon, epsilon * (1 + 1e-9), audits) == pytest.approx(level)


def test_a_test_that_does_not_know_the_time_of_the_change_has_no_more_alarms() -> None:
    _, _, *rows = table(1, 1000)
    assert len(rows) == 9
    for row in rows:
        *_, limit, shared = (float(cell.strip(" %")) for cell in row.split("|")[2:-1])
        assert 0 < shared <= limit <= 100
