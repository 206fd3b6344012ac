from pathlib import Path

import pytest

from benchmarks.training.comparison import (
    ROWS,
    VARIATIONS,
    Plan,
    Row,
    Run,
    finished,
    row_named,
    runs_of,
)
from tests.training.samples import finished_progress, untrained_checkpoint
from training.fit.checkpoint import new_network, save_checkpoint
from training.networks.flops import flops_to_exits
from training.objectives import build_objective
from training.output_folder import CHECKPOINT

EVERY = (*ROWS, *VARIATIONS)


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_a_row_gives_a_valid_recipe(row: Row) -> None:
    recipe = Plan().recipe_of(Run(row, 1))
    network = new_network(recipe, classes=10)
    build_objective(recipe.objective, recipe.objective_options, network, recipe.label_smoothing)
    assert recipe.seed == 1


def test_rows_have_different_names_and_recipes_and_known_baselines() -> None:
    recipes = [Plan().recipe_of(Run(row, 0)) for row in EVERY]
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(EVERY)
    assert len({row.name for row in EVERY}) == len(EVERY)
    named = {row.name for row in EVERY}
    assert all(row.against in named for row in EVERY)


def test_a_row_and_its_baseline_have_the_same_network() -> None:
    for row in EVERY:
        own, other = (Plan().recipe_of(Run(one, 0)) for one in (row, row_named(row.against)))
        if own.shape != other.shape:
            flops = [flops_to_exits(new_network(one, 10), one.size) for one in (own, other)]
            assert flops[0] == flops[1], row.name


def test_lists_of_options_reach_the_recipe() -> None:
    beta = Plan().recipe_of(Run(row_named("dfs-released-beta-rising"), 0)).beta
    assert beta == (0.3, 0.5, 0.7)
    weighted = Plan().recipe_of(Run(row_named("joint-weights-falling"), 0))
    assert weighted.objective_options == {"weights": [1.6, 1.2, 0.8, 0.4]}


def test_a_row_is_found_by_its_name() -> None:
    assert row_named("dfs-released-wide").against == "joint-wide"
    assert row_named("not listed").against == "joint"


def test_runs_are_ordered_by_seed() -> None:
    order = runs_of([Row("a", "", seeds=2), Row("b", "")])
    assert [(run.row.name, run.seed) for run in order] == [("a", 0), ("b", 0), ("a", 1)]


def test_only_a_completed_run_of_this_recipe_is_finished(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    assert not finished(path)
    progress = finished_progress()
    save_checkpoint(path, untrained_checkpoint(progress))
    moved = progress.recipe.model_copy(update={"data": "elsewhere"})
    assert finished(path)
    assert finished(path, moved)
    assert not finished(path, moved.model_copy(update={"lr": 1.0}))
    begun = progress.model_copy(update={"epochs": progress.epochs[:1]})
    save_checkpoint(path, untrained_checkpoint(begun))
    assert not finished(path)


def test_each_seed_can_have_images_of_its_own() -> None:
    plan, row = Plan("folds/fold{seed}.csv"), Row("a", "", seeds=2)
    assert [plan.recipe_of(run).data for run in runs_of([row])] == [
        "folds/fold0.csv",
        "folds/fold1.csv",
    ]
    assert plan.one_source is None
    assert Plan("photos").one_source == "photos"
