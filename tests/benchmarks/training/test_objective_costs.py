"""The goals of the costs of a step, from made-up times."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.timing import Batch
from benchmarks.training import objective_costs
from benchmarks.training.comparison import ROWS, Plan, Row, Run
from benchmarks.training.objective_costs import (
    CHEAP,
    goals,
    print_costs,
    quartiles,
    step_times,
)


def test_goals_compare_with_joint_training_and_with_the_rules_that_combine_gradients() -> None:
    spent = {row: np.full(3, 3.2 if row.name in ("pcgrad", "cagrad") else 1.0) for row in ROWS}
    first, *others = goals(quartiles(spent))
    assert first.met
    assert first.figure == "all of them"
    assert [goal.met for goal in others].count(True) == 4, "two forms of surgery, two rules"
    dear = {row: seconds * (1.4 if row.name == CHEAP[0] else 1) for row, seconds in spent.items()}
    first, *_ = goals(quartiles(dear))
    assert not first.met
    assert first.figure == f"{CHEAP[0]} 1.400"


def test_ratios_are_taken_within_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    joint, other = Row("joint", ""), Row("other", "")
    found = quartiles({joint: np.array([1.0, 2, 4]), other: np.array([1.5, 3, 6])})
    np.testing.assert_allclose(found["other"], 1.5)
    print_costs(found)
    assert "other                  1.500 [1.500, 1.500]" in capsys.readouterr().out


def test_a_step_is_timed_on_images_of_the_size_of_the_recipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, ...]] = []

    def step(batch: Batch) -> None:
        seen.append(tuple(batch.images.shape))

    monkeypatch.setattr(objective_costs, "step_of", lambda *_: step)
    joint, small = Row("joint", ""), Row("small", "--size 24")
    recipes = {row: Plan().recipe_of(Run(row, 0)) for row in (joint, small)}
    found = step_times(recipes, 2, 1, torch.device("cpu"))
    assert [len(seconds) for seconds in found.values()] == [1, 1]
    assert set(seen) == {(2, 3, 32, 32), (2, 3, 24, 24)}
