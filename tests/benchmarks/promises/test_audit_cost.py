from __future__ import annotations

import pytest

from benchmarks.promises.audit_cost import SHIPPED, Cost, table
from offramp.bundle.manifest import read_manifest
from tests.docs.documents import ROOT


def test_the_cost_is_relative_to_answers_all_flops_and_full_depth() -> None:
    cost = Cost(audit=80, answer=40, full=100)
    found = (cost.of_answers, cost.of_all, cost.of_full)
    assert found == pytest.approx((0.02, 0.8 / 40.8, 0.008))
    assert cost.least_of_answers == pytest.approx(0.015)
    assert cost.share_within_goal == pytest.approx(0.01)


def test_the_document_states_the_cost_of_the_shipped_bundle() -> None:
    lines = [*table(read_manifest(SHIPPED))]
    stated = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").splitlines()
    assert set(lines[2:]) <= set(stated)
    assert len(lines) == 5
