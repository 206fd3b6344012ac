from __future__ import annotations

import pytest

from benchmarks.serving.revisions.throughput import NEW, OLD
from benchmarks.serving.rounds import OPEN, SATURATION, Row
from benchmarks.serving.shadow.goals import Measured, goals


def measured(number: int, server: str, measure: str, rate: float, copies: float = 0) -> Measured:
    row = Row(number, server, measure, "low", rate=rate, p99=2.0 if server == NEW else 1.0)
    return Measured(row, 1000, copies)


@pytest.mark.parametrize(
    ("at_load", "saturated", "copies", "met"),
    [
        (0.99, 1.01, 2 * 64 + 1, [True, True, True]),
        (0.97, 0.97, 2 * 64 + 3, [False, False, False]),
    ],
)
def test_goals_are_medians_of_ratios_within_rounds(
    at_load: float, saturated: float, copies: float, met: list[bool]
) -> None:
    rows = []
    for number in range(1, 6):
        fast = 100.0 * number  # a round of a faster machine changes no ratio
        rows += [measured(number, OLD, each, fast) for each in (OPEN, SATURATION)]
        rows.append(measured(number, NEW, OPEN, fast * at_load, 50))
        rows.append(measured(number, NEW, SATURATION, fast * saturated, copies))
    found = [*goals(rows, workers=2)]
    assert [goal.met for goal in found] == met
    assert f"{at_load:.3f} [{at_load:.3f}, {at_load:.3f}], p99 2.000" in found[0].figure
    assert found[2].figure.endswith("at 70% 5.00%")
