from __future__ import annotations

import pytest

from exporter.design.chains import Chain, Point
from exporter.design.choice import Alone, best_at, best_of, cheapest_within
from exporter.errors import ExportError
from offramp.bundle.values import Estimate
from tests.exporter.design.measured import LARGE, SMALL, TWO


def point(milliseconds: float, flops: float, accuracy: float) -> Point:
    return Point(milliseconds, flops, Estimate(value=accuracy, low=0, high=1))


ALONE = [
    Alone(SMALL, 1, point(1, 30, 0.85)),
    Alone(TWO, 1, point(2, 20, 0.80)),
    Alone(TWO, 2, point(3.8, 78, 0.90)),
    Alone(LARGE, 1, point(10, 100, 0.95)),
]
CHAINS = [
    Chain((SMALL, LARGE), (point(1, 30, 0.85), point(4, 60, 0.946), point(10, 100, 0.95))),
    Chain((TWO, LARGE), (point(2, 20, 0.8), point(6, 50, 0.948), point(10, 100, 0.95))),
]


def test_the_cheapest_point_within_half_a_point_of_the_best_network() -> None:
    found = cheapest_within(ALONE, CHAINS, 0.5, "ms")
    assert (found.name, found.point) == ("small > large", CHAINS[0].points[1])
    assert found.best == best_of(ALONE) == ALONE[3]
    assert cheapest_within(ALONE, CHAINS, 0.5, "flops").name == "two > large"


def test_a_network_alone_is_proposed_where_no_chain_is_cheaper() -> None:
    found = cheapest_within(ALONE, CHAINS, 5.0, "ms")
    assert (found.networks, found.name) == ((TWO,), "two")
    assert cheapest_within(ALONE, [], 0.0, "ms").networks == (LARGE,)


def test_the_most_accurate_point_within_a_time() -> None:
    assert best_at(ALONE, CHAINS, 5.0).point == CHAINS[0].points[1]
    assert best_at(ALONE, CHAINS, 1.5).name == "small"


def test_a_time_that_no_network_meets_is_refused() -> None:
    with pytest.raises(ExportError, match="takes 1 ms on this machine, more than"):
        best_at(ALONE, CHAINS, 0.5)
