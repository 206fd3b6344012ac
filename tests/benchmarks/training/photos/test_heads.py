"""The comparison of heads."""

from __future__ import annotations

import pytest

from benchmarks.training.comparison import Plan
from benchmarks.training.photos.heads import head_flops, print_costs, rows_of

SHAPE = "--shape.width 0.25 --shape.blocks [5,11] --shape.last_block 12"
PLAN = Plan("data", "photos-quick", f"{SHAPE} --size 64")


def test_a_coarse_head_costs_as_much_as_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(PLAN, seeds=2)
    assert [row.name for row in rows] == ["convolution", "coarse", "linear"]
    assert {row.seeds for row in rows} == {2}
    plain, coarse, linear = (sum(head_flops(PLAN, row)[:-1]) for row in rows)
    assert coarse == pytest.approx(plain, rel=0.1)
    assert linear < plain / 100
    print_costs(PLAN, rows)
    assert "--shape.head coarse --shape.hidden" in capsys.readouterr().out.splitlines()[2]
