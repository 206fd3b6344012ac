from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.goals import MET, MISSED
from benchmarks.training.budgeted import goals, main, print_table, table
from benchmarks.training.predictions import CACHE, Reader, Trained
from tests.training.evaluation.test_thresholds import overconfident
from tests.training.samples import finished_progress, source_with_test, untrained_checkpoint
from training.errors import DataError
from training.evaluation.budgeted import direct_optimum
from training.evaluation.evaluate import Scored
from training.fit.checkpoint import Checkpoint, save_checkpoint
from training.output_folder import CHECKPOINT


def save_run(folder: Path, seed: int) -> Checkpoint:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = untrained_checkpoint(finished_progress())
    torch.manual_seed(seed)
    weights = {
        n: w + 0.1 * torch.randn_like(w) * ("heads" in n)
        for n, w in checkpoint.weights.items()
        if w.is_floating_point()
    }
    checkpoint = Checkpoint(checkpoint.progress, checkpoint.weights | weights, {}, {})
    save_checkpoint(folder / CHECKPOINT, checkpoint)
    return checkpoint


def test_the_command_compares_rows_and_a_stale_cache_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images")
    for row in ("joint", "dfs-paper"):
        save_run(tmp_path / "runs" / row / "seed0", 0)
    command = ["--runs", str(tmp_path / "runs"), "--data", source, "--out", str(tmp_path / "out")]
    assert main(command) == 1
    printed = capsys.readouterr().out.splitlines()
    expected = (
        "NOT MET  dfs-paper reaches joint's best accuracy at <= 0.5 of its flops: 1.0000, 1 seeds"
    )
    assert printed[-3] == expected, "it is the same network"
    assert printed[-2].startswith(MET)
    assert printed[-2].endswith("true in 2 of 2 runs, n = 100")
    assert printed[-1].startswith((MET, MISSED))
    assert printed[-1].endswith("n = 100")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("budgeted.csv", "budgeted_curves.csv", "budgeted.png", "budgeted.svg")
    }

    folder = tmp_path / "runs" / "joint" / "seed0"
    before, reader = Reader(source).read(folder / CHECKPOINT), Reader(source)
    written = (folder / CACHE).stat().st_mtime_ns
    reader.read(folder / CHECKPOINT)
    assert (folder / CACHE).stat().st_mtime_ns == written, "the cache is used"
    save_run(folder, 1)
    after = reader.read(folder / CHECKPOINT)
    assert not np.array_equal(before.test.confidence, after.test.confidence)


def test_rows_without_a_baseline_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images")
    save_run(tmp_path / "runs" / "ge" / "seed0", 0)
    command = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert main([*command, "--data", source]) == 1
    assert "there is no joint/seed0" in capsys.readouterr().err
    assert main(command) == 1, "the training set alone has no test split"
    assert "has no test split" in capsys.readouterr().err


def scored_run(row: str, network: float = 1.0) -> Trained:
    held_out, test = (overconfident(200, 4, seed) for seed in (0, 1))
    flops = network * held_out.flops
    return Trained(
        row,
        "seed0",
        Scored(held_out.confidence, held_out.right, flops),
        Scored(test.confidence, test.right, flops),
    )


def test_a_row_is_compared_with_its_baseline(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = [scored_run(row, network=2) for row in ("dfs-released-wide", "joint-wide")]
    rows = table([*wide, scored_run("dfs-paper"), scored_run("joint")], direct_optimum)
    assert list(rows) == ["joint", "joint-wide", "dfs-paper", "dfs-released-wide"]
    assert all(run.to_best[0] == 1 for row in rows.values() for run in row)
    texts = [goal.text for goal in goals(rows)]
    assert [text for text in texts if text.startswith("dfs")] == [
        "dfs-paper reaches joint's best accuracy at <= 0.5 of its flops"
    ], "variations have no goal"
    print_table(rows)
    assert "dfs-released-wide                1  joint-wide" in capsys.readouterr().out


def test_runs_of_different_networks_are_not_compared() -> None:
    with pytest.raises(DataError, match="dfs-paper/seed0 and joint/seed0 have different networks"):
        table([scored_run("joint"), scored_run("dfs-paper", network=2)], direct_optimum)


def test_there_is_no_accuracy_below_the_flops_of_the_first_exit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = scored_run("joint")
    flops = run.test.flops + 50
    costly = [Scored(each.confidence, each.right, flops) for each in (run.held_out, run.test)]
    print_table(table([Trained("joint", "seed0", *costly)], direct_optimum))
    printed = capsys.readouterr().out
    assert "no point in 1/1" in printed
    assert "never" not in printed
