"""The comparison of static networks with chains."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training.comparison import Plan, Run
from benchmarks.training.photos.static.__main__ import (
    BySeedAndRow,
    main,
    points_of,
    print_table,
    write,
)
from benchmarks.training.photos.static.costs import (
    Answers,
    StageCosts,
    joined,
    stage_costs,
    with_costs,
)
from benchmarks.training.photos.static.options import build_parser, choice_of, named
from benchmarks.training.photos.static.points import along, best_points, chain_points, static_point
from benchmarks.training.photos.static.rows import Choice, chain_rows, rows_of, static_rows
from benchmarks.training.photos.static.runs_table import lines, merged, points_of_run
from benchmarks.training.photos.static.runs_table import read as read_runs
from benchmarks.training.photos.static.runs_table import write as write_runs
from tests.training.samples import finished_progress, untrained_checkpoint
from training.evaluation.evaluate import Scored
from training.fit.checkpoint import save_checkpoint
from training.recipes import RECIPES

IMAGES = 200
SMALL = StageCosts(*(np.array([cost]) for cost in (100.0, 10.0, 1.0, 0.1)))
LARGE = StageCosts(*(np.array([cost]) for cost in (400.0, 10.0, 5.0, 0.1)))
VGG = {"backbone": "vgg", "shape": {"convolutions": (1, 1), "channels": 4}}


def answers(costs: StageCosts, accuracy: float, seed: int) -> Answers:
    """Return random answers that are right in proportion to their confidence, of one exit."""
    values = np.random.default_rng(seed)
    exits = len(costs.flops)
    confidence = values.uniform(2 * accuracy - 1, 1, (exits, IMAGES)).astype(np.float32)
    right = values.uniform(size=(exits, IMAGES)) < confidence
    return with_costs(Scored(confidence, right, np.zeros(exits)), costs)


def sets(costs: StageCosts, accuracy: float, seed: int) -> tuple[Answers, Answers]:
    """Return answers to held-out and to test images."""
    return answers(costs, accuracy, 2 * seed), answers(costs, accuracy, 2 * seed + 1)


STATIC: BySeedAndRow = {
    "full": {f"seed{seed}": sets(LARGE, 0.9, seed) for seed in range(2)},
    "size-128": {f"seed{seed}": sets(SMALL, 0.8, 10 + seed) for seed in range(2)},
}


@pytest.mark.parametrize("recipe", ["photos-quick", "photos"])
def test_every_row_is_a_valid_recipe(recipe: str) -> None:
    lite1 = {"lite1": "--shape.variant 1"}
    cut_first = {"cut-first": "--first-size 96 --shape.last_block 13"}
    choice = Choice([96, 128], [8, 11], cut_sizes=[128], networks=lite1, chains=cut_first, seeds=2)
    rows = [*static_rows(choice), *chain_rows(choice)]
    recipes = {row.name: Plan("data", recipe, "").recipe_of(Run(row, 1)) for row in rows}
    sizes = {name: (each.size, each.shape.get("last_block")) for name, each in recipes.items()}
    assert sizes == {
        "full": (224, None),
        "size-96": (96, None),
        "size-128": (128, None),
        "cut-8": (224, 8),
        "cut-11": (224, 11),
        "size-128-cut-8": (128, 8),
        "size-128-cut-11": (128, 11),
        "lite1": (224, None),
        "exits": (224, None),
        "small-first": (224, None),
        "cut-first": (224, 13),
    }
    assert recipes["small-first"].first_size == 128
    assert recipes["cut-first"].first_size == 96
    chains = ("exits", "small-first", "cut-first")
    alone = [each for name, each in recipes.items() if name not in chains]
    assert {each.objective for each in alone} == {"joint"}
    assert all(each.shape["exits"] == [] for each in alone)


def test_static_msdnets_have_the_layers_up_to_an_exit() -> None:
    given = build_parser("").parse_args(
        [
            "--recipe",
            "cifar-compact",
            "--data",
            "d",
            "--out",
            "o",
            "--sizes",
            "24",
            "--chain",
            "wide=--variant joint --shape.base 2",
        ]
    )
    static, chains = rows_of(RECIPES["cifar-compact"], choice_of(given))
    recipes = {
        row.name: Plan("data", "cifar-compact", "").recipe_of(Run(row, 1))
        for row in (*static, *chains)
    }
    shapes = {name: (r.shape["exits"], r.shape["base"], r.size) for name, r in recipes.items()}
    assert shapes == {
        "full": (1, 7, 32),
        "layers-1": (1, 1, 32),
        "layers-3": (1, 3, 32),
        "layers-5": (1, 5, 32),
        "size-24": (1, 7, 24),
        "exits": (4, 1, 32),
        "exits-dfs": (4, 1, 32),
        "wide": (4, 2, 32),
    }
    assert (recipes["exits"].variant, recipes["exits-dfs"].variant) == ("joint", "released")


def test_the_costs_are_those_of_the_exported_stages(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, untrained_checkpoint(finished_progress(**VGG)))
    costs = stage_costs(path)
    assert costs.flops.shape == costs.ms.shape == (2,)
    first, last = costs.head_flops
    assert costs.flops[0] > first == 4 * 10, "a linear layer of 10 classes"
    assert costs.flops[1] == last, "the last stage is all head"
    assert (costs.ms >= costs.head_ms).all()
    assert (costs.ms > 0).all()


def test_two_networks_cost_what_they_run() -> None:
    both = joined(answers(SMALL, 0.8, 0), answers(LARGE, 0.9, 1))
    assert both.flops.flops_evaluating(np.array([True, True])).tolist() == [100, 500]
    assert both.flops.full_flops == 400, "the first network does not run"
    assert both.ms.flops_evaluating(np.array([True, True])).tolist() == [1, 6]


def test_the_front_rises_on_the_held_out_images() -> None:
    small, large = sets(SMALL, 0.8, 0), sets(LARGE, 0.9, 5)
    points = best_points(chain_points(joined(small[0], large[0]), joined(small[1], large[1])))
    costs, expected = ([getattr(p, name) for p in points] for name in ("expected_ms", "expected"))
    assert costs == sorted(costs)
    assert expected == sorted(expected)
    assert points[0].flops == 100
    steps = list(along({"seed0": points, "seed1": points}))
    assert steps[0]["seed0"] is points[0]
    assert steps[-1]["seed1"] is points[-1]


def test_a_static_network_pays_no_other_head() -> None:
    costs = StageCosts(*(np.array(each) for each in ([5.0, 5], [2.0, 1], [1.0, 1], [0.5, 0.1])))
    assert static_point(*sets(costs, 0.9, 0)).flops == 8


def test_each_exit_of_a_chain_is_a_point_that_pays_no_other_head() -> None:
    costs = StageCosts(*(np.array(each) for each in ([5.0, 5], [2.0, 1], [1.0, 1], [0.5, 0.1])))
    chain = {f"seed{seed}": sets(costs, 0.8, seed) for seed in range(2)}
    exits = [each for each in points_of(STATIC, {"exits": chain}) if each.kind == "exit"]
    assert [(each.row, each.flops) for each in exits] == [
        ("exits, exit 1", 5),
        ("exits, exit 2", 8),
    ]
    right = [chain[f"seed{seed}"][1].ms.right[0].mean() for seed in range(2)]
    assert exits[0].accuracy == pytest.approx(np.mean(right))


def test_files_and_table_have_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = points_of(STATIC, {})
    write(tmp_path, points, "two networks")
    with (tmp_path / "static.csv").open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    static = {each["row"]: each for each in written if each["kind"] == "static"}
    assert static["full"]["against_full"] == "0.0"
    assert (static["size-128"]["ms"], static["size-128"]["flops"]) == ("1.0", "100.0")
    assert static["size-128"]["seeds"] == "2"
    assert {each["row"] for each in written if each["kind"] == "chain"} == {"pair"}
    assert (tmp_path / "static.svg").stat().st_size > 1000
    assert {point.images for point in points} == {IMAGES}
    assert {point.images for point in points_of(STATIC, {}, folds=True)} == {2 * IMAGES}
    print_table(points)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"{IMAGES} test images, 2 seeds")
    assert [line.split()[0] for line in lines[3:]] == ["full", "size-128", "pair,", "pair,"]


def test_runs_of_different_days_are_kept_in_one_table(tmp_path: Path) -> None:
    path = tmp_path / "static-runs.csv"
    costs = StageCosts(*(np.array(each) for each in ([5.0, 5], [2.0, 1], [1.0, 1], [0.5, 0.1])))
    for seed in range(2):
        full, chain = sets(LARGE, 0.9, seed), sets(costs, 0.8, seed)
        new = [*points_of_run("full", f"seed{seed}", full)]
        new += points_of_run("exits", f"seed{seed}", chain)
        points = merged(path, new)
        write_runs(path, points)
    assert merged(path, new) == read_runs(path) == points
    assert [each.point for each in points if each.row == "full"] == ["full depth"] * 2
    of_chain = [each for each in points if (each.row, each.seed) == ("exits", "seed1")]
    assert [each.point for each in of_chain] == ["exit 1", "full depth", "within 0.5", "within 1"]
    assert of_chain[0].right == int(chain[1].ms.right[0].sum())
    assert of_chain[3].ms <= of_chain[2].ms
    assert f" of {2 * IMAGES} " in next(
        line for line in lines(points, folds=True) if "exit 1" in line
    )
    table = [*lines(points, folds=False)]
    assert f" of {IMAGES} " in table[1]
    assert table[1].startswith("full, full depth")
    assert table[1].endswith("+0.00 ±0.00 (2 runs)")


def test_a_network_needs_a_name() -> None:
    options = "--backbone timm:mobilenetv2_100 --weights=hub"
    assert named(f"mobilenetv2={options}") == ("mobilenetv2", options)
    with pytest.raises(argparse.ArgumentTypeError, match="NAME=OPTIONS"):
        named("mobilenetv2")


def test_a_row_that_does_not_exist_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--data", "photos", "--out", str(tmp_path), "--rows", "full", "size-127"])
    assert "--rows: there is no row size-127" in capsys.readouterr().err
