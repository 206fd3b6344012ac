"""The comparison on a GPU, on the CPU with a tiny network."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.comparison import ROWS, Measured, epochs_within, main
from benchmarks.gpu.results import write_epochs, write_table
from benchmarks.gpu.step_seconds import main as step_seconds
from benchmarks.training.comparison import Plan, Run
from tests.training.samples import finished_progress, source_with_test, untrained_checkpoint
from training.fit.checkpoint import save_checkpoint
from training.output_folder import CHECKPOINT

TINY = (
    "--device cpu --shape.exits 2 "
    "--shape.base 1 --shape.step 1 --shape.channels 4 --shape.growth 4 --shape.head_channels 8"
)


def test_rows_differ_in_surgery_and_regularisation_alone() -> None:
    recipes = {row.name: Plan("data", "cifar-paper").recipe_of(Run(row, 0)) for row in ROWS}
    found = {
        (recipe.variant, recipe.weight_decay, recipe.shape["head_dropout"])
        for recipe in recipes.values()
    }
    assert found == {(v, *r) for v in ("joint", "released") for r in ((1e-4, 0), (5e-4, 0.5))}


def test_the_number_of_epochs_fits_the_time() -> None:
    found = Measured(step=0.1, start=10)
    # two rounds of 300 s, 40 s around each, 100 steps of .115 s an epoch
    assert epochs_within(600, found, 100, 2, 30) == 22
    assert epochs_within(600, found, 100, 2, 20) == 20
    assert epochs_within(50, found, 100, 2, 20) == 1


def test_a_step_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    training = ["cifar-paper", "--out", "unused", *TINY.split(), "--batch-size", "4"]
    assert step_seconds(["--classes", "5", "--seconds", "0", "--", *training]) == 0
    assert float(capsys.readouterr().out) > 0


def test_the_command_trains_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    source, out = source_with_test(tmp_path / "images"), tmp_path / "out"
    command = ["--data", source, "--out", str(out), "--seeds", "1", "--rows", "joint-plain"]
    command += ["--epochs", "1", "--jobs", "1", "--precision", "fp32", "--limit", "3600"]
    assert main([*command, "--options", f"{TINY} --held-out 50 --batch-size 100"]) == 0
    assert "test accuracy of finished runs, %, 60 images" in capsys.readouterr().out
    with (out / "epochs.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["epoch"], line["exit"]) for line in lines] == [("1", "1"), ("1", "2")]
    with np.load(out / "right.npz") as arrays:
        assert arrays["joint-plain/seed0"].shape == (2, 60)


def test_rows_are_compared_at_the_last_epoch_that_both_have(tmp_path: Path) -> None:
    done = finished_progress()
    begun = done.model_copy(update={"epochs": done.epochs[:1]})
    for name, progress in (("joint-plain", done), ("released-plain", begun)):
        path = tmp_path / name / "seed0" / CHECKPOINT
        path.parent.mkdir(parents=True)
        save_checkpoint(path, untrained_checkpoint(progress))
    broken = tmp_path / "joint-plain" / "seed1" / CHECKPOINT
    broken.parent.mkdir()
    broken.write_bytes(b"begun")
    write_table(tmp_path, tmp_path, [row.name for row in ROWS])
    (line,) = (tmp_path / "table.txt").read_text().splitlines()[1:]
    assert line.split() == [
        *("surgery,", "without", "regularisation", "seed0"),
        *("epoch", "1/2", "+0.00", "+0.00"),
    ]
    write_epochs(tmp_path, tmp_path, [Run(row, 0) for row in ROWS])
    assert len((tmp_path / "epochs.csv").read_text().splitlines()) == 1 + 4 + 2
