from __future__ import annotations

import pytest

from benchmarks.engine.flood import CLIENTS, RATE, RATIO, p99, simulate


@pytest.fixture(scope="module")
def alone() -> float:
    return p99(simulate(1.0, 0, RATE)[1])


def test_a_model_does_not_notice_a_flood_on_another_one_much(alone: float) -> None:
    flooded, other = simulate(1.0, CLIENTS, RATE)
    assert p99(other) < RATIO * alone
    assert len(flooded.seconds) > RATE


def test_two_floods_share_the_cores() -> None:
    flooded, other = simulate(0.5, CLIENTS, 10 * RATE)
    assert len(flooded.seconds) == pytest.approx(len(other.seconds), rel=0.5)
