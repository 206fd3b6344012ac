"""The lines about the proposed chain."""

from __future__ import annotations

import re

import pytest

from exporter.budgets import estimate_share
from exporter.design.chains import Point
from exporter.design.choice import Alone, Proposal
from exporter.design.run import _proposed
from tests.exporter.design.measured import LARGE


@pytest.mark.parametrize("flops", [480_123.0, 146_140_001.0, 17_564_321_987.5])
def test_the_stated_budget_is_one_of_a_server_and_allows_the_point(flops: float) -> None:
    point = Point(1.0, flops, estimate_share(0.9, 100))
    lines = _proposed(Proposal((LARGE,), "large", point, Alone(LARGE, 1, point)))
    (budget,) = re.findall(r"budget=(\d+\.\d+)M$", "\n".join(lines), re.MULTILINE)
    assert flops <= float(budget) * 1e6 < flops + 1e4
