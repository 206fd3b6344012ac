"""The comparison of objectives on a pretrained network."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.training.comparison import Plan, Run
from benchmarks.training.photos.objectives import ROWS, print_table

RIGHT = np.array([[1.0, 0, 1, 0], [1, 1, 1, 0]])  # of two exits


def test_every_row_is_a_valid_recipe() -> None:
    recipes = {row.name: Plan("data", "photos", "").recipe_of(Run(row, 1)) for row in ROWS}
    assert {recipe.seed for recipe in recipes.values()} == {1}
    assert recipes["joint"].objective == recipes["alone"].objective == "joint"
    assert recipes["distillation"].objective == "distillation"
    assert recipes["dfs-beta0.25"].variant == "released"
    assert recipes["dfs-beta0.25"].beta == 0.25
    assert recipes["alone"].shape["exits"] == []


def test_the_table_has_each_row_and_its_difference(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"joint": {"0": RIGHT}, "alone": {"0": 0 * RIGHT[1:]}}, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["joint", "alone", "against"]
    assert "4 images" in lines[1]
    assert "-75.0" in lines[-1]
