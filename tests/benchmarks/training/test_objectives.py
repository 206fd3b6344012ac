import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training.comparison import Plan, Row, Run, train_all
from benchmarks.training.objectives import (
    Results,
    adopted,
    figure,
    gains,
    goals,
    main,
    print_table,
)
from tests.training.samples import finished_progress, source_with_test, untrained_checkpoint
from training.fit.checkpoint import save_checkpoint
from training.output_folder import CHECKPOINT

JOINT, DFS = "joint", "dfs-released"


def test_gains_compare_runs_with_the_same_seed() -> None:
    measured = {
        JOINT: {"seed0": np.array([70.0, 80.0]), "seed1": np.array([60.0, 90.0])},
        DFS: {"seed1": np.array([63.0, 89.0]), "seed7": np.array([0.0, 0.0])},
    }
    np.testing.assert_allclose(gains(measured, Row(DFS, "")), [[3.0, -1.0]])
    above, first = goals(measured)
    assert not above.met
    assert first.met
    assert first.figure == "+3.00, -1.00 points on held-out images, 1 seeds"
    assert goals({JOINT: measured[JOINT]}) == []
    assert goals({DFS: measured[DFS], JOINT: {}}) == [], "no seed that both have"


def test_held_out_images_decide_which_rows_to_adopt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = (Row(JOINT, ""), Row(DFS, ""), Row("ge", ""), Row("own", "", against="own"))
    low, high = {"seed0": np.array([60.0, 70.0])}, {"seed0": np.array([63.0, 71.0])}
    mixed = {"seed0": np.array([63.0, 69.0])}
    test = {JOINT: low, DFS: high, "ge": low, "own": high}
    held_out = {JOINT: low, DFS: mixed, "ge": high, "own": high}
    assert [(row.name, seeds) for row, seeds in adopted(held_out, rows)] == [("ge", 1)]
    print_table(Results(test, held_out, 60, 100), rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("on 100 held-out images): ge (1 seeds)")
    after = lines.index(next(line for line in lines if line.startswith(DFS)))
    assert lines[after + 1].split() == ["test,", "against", "joint", "+3.00", "+1.00"]
    assert lines[after + 2].split() == ["held-out,", "against", "joint", "+3.00", "-1.00"]


def test_a_plot_without_rows_is_empty() -> None:
    (axes,) = figure({JOINT: {"seed0": np.array([60.0])}}, (Row(JOINT, ""),)).axes
    assert axes.get_legend() is None
    assert not axes.patches


def written(run: Run, runs: Path) -> int:
    """Return the time at which the checkpoint of a run was written, in nanoseconds."""
    return (run.folder(runs) / CHECKPOINT).stat().st_mtime_ns


def test_the_command_trains_missing_runs_and_prints_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    rows = (Row(JOINT, "--variant joint"), Row(DFS, "--variant released"))
    monkeypatch.setattr("benchmarks.training.objectives.ROWS", rows)
    runs, source = tmp_path / "runs", source_with_test(tmp_path / "images")
    shape = "--shape.exits 2 --shape.step 1 --shape.channels 4 --shape.growth 4"
    plan = Plan(source, options=f"--epochs 1 --held-out 100 {shape}")
    joint, missing = wanted = [Run(row, 0) for row in rows]
    joint.folder(runs).mkdir(parents=True)
    progress = finished_progress(**plan.recipe_of(joint).model_dump())
    save_checkpoint(joint.folder(runs) / CHECKPOINT, untrained_checkpoint(progress))
    trained = written(joint, runs)
    command = ["--runs", str(runs), "--out", str(tmp_path / "out"), "--jobs", "2"]
    main([*command, "--data", source, f"--options={plan.options}"])
    assert written(joint, runs) == trained, "a finished run is not trained again"
    printed = capsys.readouterr().out
    assert "joint                        1 seeds" in printed
    assert "against joint" in printed
    assert printed.count("points on held-out images, 1 seeds\n") == 2, "two goals"
    with (tmp_path / "out" / "objectives.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 2
    assert all(0 <= float(line["held_out_accuracy"]) <= 1 for line in lines)
    trained = written(missing, runs)
    train_all(wanted, runs, plan, jobs=2)
    assert written(missing, runs) == trained, "nor is one that the command has trained"
