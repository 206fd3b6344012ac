from __future__ import annotations

import numpy as np
import pytest

from exporter.design.chains import Chain, chains, exits_alone, solve
from tests.exporter.design.measured import LARGE, SMALL, TARGETS, TWO


def test_an_exit_alone_does_not_pay_for_the_heads_before_it() -> None:
    first, last = exits_alone(TWO, TARGETS)
    assert (first.milliseconds, first.flops) == (2.0, 20e6)
    assert (last.milliseconds, last.flops) == pytest.approx((3.8, 78e6))
    assert last.accuracy.value == (TWO.classes[1] == TARGETS).mean()
    assert (last.cost("ms"), last.cost("flops")) == (last.milliseconds, last.flops)


def test_a_pair_begins_with_the_faster_network() -> None:
    names = [[each.name for each in chain] for chain in chains([LARGE, SMALL, TWO])]
    assert names == [["two"], ["small", "large"], ["small", "two"], ["two", "large"]]


@pytest.fixture(scope="module")
def chain() -> Chain:
    return solve((SMALL, LARGE), TARGETS, "ms", "agreement")


def test_a_chain_has_points_from_its_first_exit_to_full_depth(chain: Chain) -> None:
    assert chain.name == "small > large"
    assert (chain.points[0].milliseconds, chain.points[0].flops) == pytest.approx((1.0, 30e6))
    assert (chain.points[-1].milliseconds, chain.points[-1].flops) <= (10.0, 100e6)
    flops = np.array([point.flops for point in chain.points])
    milliseconds = np.array([point.milliseconds for point in chain.points])
    assert (np.diff(flops) > 0).all()
    between = flops < 100e6  # all run the small network, and a share the large one
    share = (flops[between] - 30e6) / 100e6
    np.testing.assert_allclose(milliseconds[between], 1 + 10 * share)


def test_a_chain_can_be_more_accurate_than_the_mean_of_its_networks(chain: Chain) -> None:
    small, large = (each.classes[-1] == TARGETS for each in (SMALL, LARGE))
    half = min(chain.points, key=lambda point: abs(point.milliseconds - 6))
    assert half.accuracy.value > (small.mean() + large.mean()) / 2
    assert half.accuracy.low < half.accuracy.value < half.accuracy.high
