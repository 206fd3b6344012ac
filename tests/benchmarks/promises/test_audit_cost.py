from __future__ import annotations

import pytest

from benchmarks.promises.audit_cost import SHIPPED, Cost, table
from offramp.bundle.manifest import read_manifest


def test_the_cost_is_relative_to_answers_all_flops_and_full_depth() -> None:
    cost = Cost(audit=80, answer=40, full=100)
    found = (cost.of_answers, cost.of_all, cost.of_full)
    assert found == pytest.approx((0.02, 0.8 / 40.8, 0.008))
    assert cost.least_of_answers == pytest.approx(0.015)
    assert cost.share_within_goal == pytest.approx(0.01)


def test_the_shipped_bundle_has_the_stated_cost() -> None:
    lines = [*table(read_manifest(SHIPPED))]
    assert "| 99% | 2.01 % | 1.97 % | 0.71 % | 1.83 % | 0.99 % |" in lines
    assert len(lines) == 5
