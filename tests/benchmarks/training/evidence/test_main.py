"""The command of the evidence, on runs that are finished."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.training.comparison import Plan, Row
from benchmarks.training.evidence.__main__ import main, rows_named, step_costs
from tests.training.samples import finished_progress, source_with_test, untrained_checkpoint
from training.fit.checkpoint import save_checkpoint
from training.output_folder import CHECKPOINT, kept_path

ROWS = (Row("joint", "", seeds=3), Row("b", ""), Row("c", "", against="b"), Row("d", ""))


def test_named_rows_bring_their_baselines() -> None:
    assert [row.name for row in rows_named(["c"], ROWS, None)] == ["joint", "b", "c"]
    assert [row.seeds for row in rows_named(None, ROWS, None)] == [3, 1, 1, 1]
    assert [row.seeds for row in rows_named(["d"], ROWS, 2)] == [2, 2]


def test_steps_are_timed_against_joint_training() -> None:
    plan = Plan(options="--shape.exits 2 --shape.channels 4 --shape.growth 4")
    rows = [Row("joint", "--variant joint"), Row("dfs", "--surgery-rule conflict")]
    costs = step_costs(rows, plan, 1)
    assert costs["joint"] == 1
    assert costs["dfs"] > 0
    assert step_costs(rows, plan, 0) == {}
    assert step_costs(rows[1:], plan, 1) == {}


def test_the_command_writes_tables_and_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images")
    runs, out = tmp_path / "runs", tmp_path / "out"
    for row in ("joint", "dfs-conflict"):
        path = runs / row / "seed0" / CHECKPOINT
        path.parent.mkdir(parents=True)
        save_checkpoint(path, untrained_checkpoint(finished_progress()))
    progress = finished_progress()
    begun = progress.model_copy(update={"epochs": progress.epochs[:1]})
    kept = kept_path(runs / "joint" / "seed0" / CHECKPOINT, 1)
    save_checkpoint(kept, untrained_checkpoint(begun))
    command = f"--data {source} --runs {runs} --out {out} --no-training --step-rounds 0"
    options = ["--rows", "dfs-conflict", "--batches", "1", "--classes", "1"]
    assert main([*command.split(), *options]) == 0
    printed = capsys.readouterr().out
    assert "dfs-conflict                      1     1" in printed
    endings = [
        f"{name}.{end}" for name in ("conflict", "evidence") for end in ("csv", "png", "svg")
    ]
    assert sorted(p.name for p in out.iterdir()) == sorted([*endings, "evidence_runs.csv"])
    with (out / "conflict.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    groups = ("all", "airplane")
    assert [(line["epoch"], line["images"]) for line in lines] == [
        (epoch, images) for epoch in ("0", "1", "2") for images in groups
    ]
    assert all(-1 <= float(line["cosine"]) <= 1 for line in lines)
