"""Ratio of two servers' throughput."""

from __future__ import annotations

from benchmarks.serving.revisions.throughput import NEW, OLD, goal, orders, ratios
from benchmarks.serving.rounds import SATURATION, Row
from benchmarks.serving.servers.processes import Server


def rows(*pairs: tuple[float, float]) -> list[Row]:
    """Rows of (old, new) answers/s, the new server first in every other round."""
    made = []
    for number, rates in enumerate(pairs, 1):
        both = [
            Row(number, name, SATURATION, "medium", rate=rate)
            for name, rate in zip((OLD, NEW), rates, strict=True)
        ]
        made += both[:: -1 if number % 2 else 1]
    return made


def test_ratios_are_within_rounds_whatever_the_order() -> None:
    assert ratios(rows((100, 50), (10, 20), (100, 100))) == [0.5, 2.0, 1.0]


def test_each_server_is_first_equally_often_in_random_sequence() -> None:
    servers = [Server(name, (), {}) for name in (OLD, NEW)]
    for rounds in (1, 7, 20):
        first = [order[0].name for order in orders(servers, rounds)]
        assert len(first) == rounds
        assert abs(first.count(OLD) - first.count(NEW)) == rounds % 2
    assert first != sorted(first)
    assert len({order[0].name + order[1].name for order in orders(servers, 7)}) == 2


def test_the_goal_is_on_the_median_and_shows_the_range() -> None:
    met = goal(rows((100, 50), (100, 98), (100, 120)))
    assert met.met
    assert met.figure == "0.980 [0.500, 1.200], 3 rounds"
    assert not goal(rows((100, 97), (100, 97), (100, 120))).met
