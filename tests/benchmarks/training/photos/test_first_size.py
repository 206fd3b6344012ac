"""The comparison of a smaller image first with one size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training.comparison import Plan, Run
from benchmarks.training.photos.first_size import Figures, print_table, rows_of, write

OWN = Figures("own", "seed0", 0.9, "70.0 90.0", 384_000_000, (2e8, None), 7, 1.0, 2.0, 3.0, 4.0)


def test_every_row_is_a_valid_recipe() -> None:
    rows = rows_of(128, 3, seeds=2)
    recipes = {row.name: Plan("data", "photos", "").recipe_of(Run(row, 1)) for row in rows}
    sizes = {name: (recipe.size, recipe.first_size) for name, recipe in recipes.items()}
    assert sizes == {
        "full": (224, None),
        "small": (128, None),
        "depth": (224, None),
        "own": (224, 128),
        "shared": (224, 128),
    }
    weights = [recipes[name].first_weights for name in ("own", "shared")]
    assert weights == ["own", "shared"]
    assert recipes["shared"].objective == recipes["depth"].objective == "distillation"


def test_the_table_has_a_line_for_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table([OWN], images=4)
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line[:6] == ["own", "seed0", "90.0", "384.0", "200.0", "never"]
    write(tmp_path, [OWN])
    columns, values = (tmp_path / "first_size.csv").read_text(encoding="utf-8").split()[:2]
    assert columns.startswith("row,seed,accuracy,exits,full_flops")
    assert values.startswith("own,seed0,0.9,")
