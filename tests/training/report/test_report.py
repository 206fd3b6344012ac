import csv
from pathlib import Path

import pytest

from exporter.budgets import NAMED_SHARES
from tests.training.samples import (
    PARQUET,
    finished_progress,
    source_with_test,
    untrained_checkpoint,
)
from training.evaluation.assessment import MEDIUM
from training.fit.checkpoint import save_checkpoint
from training.report.__main__ import main
from training.report.report import write_report


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_log_and_the_curves_are_written(tmp_path: Path) -> None:
    write_report(tmp_path, finished_progress())
    assert [row["accuracy_exit_2"] for row in rows(tmp_path / "log.csv")] == ["0.2", "0.4"]
    drawn = (tmp_path / "accuracy.svg").read_text(encoding="utf-8")
    assert drawn in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_budget_medium_is_that_of_a_bundle() -> None:
    assert NAMED_SHARES["medium"] == MEDIUM


def test_the_command_reports_a_finished_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images", images=60)
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_checkpoint(checkpoint, untrained_checkpoint(finished_progress()))
    assert main(["--checkpoint", str(checkpoint), "--data", source]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in ("accuracy", "calibration", "budgeted"):
        assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8") in page
    anytime = rows(tmp_path / "anytime.csv")
    assert [(r["set"], r["images"], r["exit"]) for r in anytime] == [
        *(("held-out", "100", "1"), ("held-out", "100", "2")),
        *(("test", "60", "1"), ("test", "60", "2")),
    ]
    for row in anytime:
        assert f"{100 * float(row['accuracy']):.2f}" in page
    curves = rows(tmp_path / "budgeted.csv")
    papers = [r for r in curves if (r["set"], r["procedure"]) == ("test", "MSDNet procedure")]
    assert len(papers) == 42
    assert papers[-1]["agreement"] == "1.0"
    assert "agreement, %" in page
    summary = rows(tmp_path / "summary.csv")
    assert len(summary) == 6
    full = [r["accuracy_at_1.0"] for r in summary if r["set"] == "test"]
    assert full == [anytime[-1]["accuracy"]] * 3, "every procedure ends at full depth"

    classes = rows(tmp_path / "classes.csv")
    counts = [sum(int(row[name]) for row in classes) for name in ("train", "held-out", "test")]
    assert counts == [400, 100, 60]
    confusion = rows(tmp_path / "confusion.csv")
    assert sum(int(row["images"]) for row in confusion) == 100, "held-out images alone"
    right = sum(int(row["images"]) for row in confusion if row["class"] == row["predicted"])
    assert right == round(100 * float(anytime[1]["accuracy"]))
    assert '<img src="data:image/jpeg;base64,' in page
    assert len(page) < 3_000_000


def test_a_damaged_test_image_limits_the_report_to_held_out_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images", damaged=20)
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_checkpoint(checkpoint, untrained_checkpoint(finished_progress()))
    assert main(["--checkpoint", str(checkpoint), "--data", source]) == 0
    assert {row["set"] for row in rows(tmp_path / "anytime.csv")} == {"held-out"}
    warning = capsys.readouterr().err
    assert warning.endswith(
        " is not an image; remove it; the report covers the held-out images alone\n"
    )


def test_a_missing_test_split_is_allowed_and_a_wrong_file_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_checkpoint(checkpoint, untrained_checkpoint(finished_progress()))
    assert main(["--checkpoint", str(checkpoint)]) == 0
    assert {row["set"] for row in rows(tmp_path / "anytime.csv")} == {"held-out"}
    capsys.readouterr()
    assert main(["--checkpoint", str(PARQUET)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
