from pathlib import Path

import numpy as np
import pytest
import torch
from samples import finished_progress, source_with_test, untrained_checkpoint
from test_calibrate import overconfident

from benchmarks.answers import CACHE, CHECKPOINT, Reader, Trained
from benchmarks.budgeted import columns, main, measured, spread
from training.checkpoint import Checkpoint, save_checkpoint
from training.evaluate import Scored


def worse(scored: Scored, share: float, seed: int) -> Scored:
    """The same, but that this share of the right predictions is wrong."""
    spoilt = np.random.default_rng(seed).uniform(size=scored.right.shape) < share
    return Scored(scored.confidence, scored.right & ~spoilt, scored.flops)


def test_a_better_row_reaches_joints_best_earlier_and_a_worse_one_never() -> None:
    held_out, test = overconfident(1500, 4), overconfident(1500, 4, seed=1)
    joint = Trained("joint", "seed0", worse(held_out, 0.1, 0), worse(test, 0.1, 1))
    better = measured(Trained("dfs", "seed0", held_out, test), joint)
    same = measured(joint, joint)
    poor = measured(Trained("x", "seed0", worse(held_out, 0.3, 2), worse(test, 0.3, 3)), joint)
    assert 0 < better.to_joint[0] < 0.9
    assert same.to_joint[0] == pytest.approx(1)
    assert np.isnan(poor.to_joint).all()
    assert spread(columns([better, poor])["flops / full"]) == "never in 1/2"
    assert better.holds
    assert same.holds
    assert poor.holds


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


def test_the_command_and_a_stale_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert printed[-2] == expected, "it is the same network"
    assert printed[-1].startswith("met ")
    assert printed[-1].endswith("so in 2 of 2 runs")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("budgeted.csv", "budgeted_curves.csv", "budgeted.png", "budgeted.svg")
    }

    folder = tmp_path / "runs" / "joint" / "seed0"
    before, reader = Reader(source).read(folder / CHECKPOINT), Reader(source)
    written = (folder / CACHE).stat().st_mtime_ns
    reader.read(folder / CHECKPOINT)
    assert (folder / CACHE).stat().st_mtime_ns == written, "what is kept is used"
    save_run(folder, 1)
    after = reader.read(folder / CHECKPOINT)
    assert not np.array_equal(before.test.confidence, after.test.confidence)


def test_rows_without_joint_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images")
    save_run(tmp_path / "runs" / "ge" / "seed0", 0)
    command = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert main([*command, "--data", source]) == 1
    assert "there is no joint/seed0" in capsys.readouterr().err
    assert main(command) == 1, "the training set alone has no test split"
    assert "has no test split" in capsys.readouterr().err
