from __future__ import annotations

from offramp.bundle.values import Estimate


def test_an_estimate_includes_its_bounds() -> None:
    estimate = Estimate(value=0.5, low=0.4, high=0.6)
    assert estimate.within(0.4)
    assert not estimate.within(0.39)
