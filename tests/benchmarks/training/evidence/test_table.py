"""The table of the evidence, from predictions that are made up."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training.comparison import Row
from benchmarks.training.evidence.table import (
    print_table,
    reach_of,
    shares_of_flops,
    table,
    write_runs,
    write_summary,
)
from benchmarks.training.predictions import Trained
from training.evaluation.evaluate import Scored

JOINT, OTHER = Row("joint", ""), Row("other", "")
FLOPS = np.array([1e6, 2e6])


def trained(row: str, seed: int, accuracies: tuple[float, float]) -> Trained:
    """Return a run with these accuracies at two exits, and confidences without information."""
    rng = np.random.default_rng(seed)

    def scored(images: int) -> Scored:
        right = np.arange(images) < images * np.array(accuracies)[:, None]
        return Scored(rng.random((2, images), dtype=np.float32), right, FLOPS)

    return Trained(row, f"seed{seed}", scored(100), scored(200))


RUNS = [
    trained("joint", 0, (0.6, 0.8)),
    trained("joint", 1, (0.5, 0.8)),
    trained("other", 0, (0.7, 0.75)),
    trained("other", 1, (0.7, 0.85)),
]


def test_a_line_has_accuracy_difference_and_cost() -> None:
    lines = table(RUNS, [JOINT, OTHER, Row("missing", "")], {"other": 1.1})
    assert [(line.row, line.exit) for line in lines] == [
        *(("joint", 1), ("joint", 2)),
        *(("other", 1), ("other", 2)),
    ]
    baseline, first, last = lines[0], *lines[2:]
    assert (first.seeds, first.paired_seeds, first.step) == (2, 2, 1.1)
    assert baseline.accuracy == pytest.approx(55)
    assert baseline.deviation == pytest.approx(np.sqrt(50))
    assert np.isnan([baseline.difference, baseline.held_out_difference, baseline.step]).all()
    assert (first.difference, first.held_out_difference) == pytest.approx((15, 15))
    assert first.error == pytest.approx(5), "over seeds: 10 and 20 points"
    assert last.difference == pytest.approx(0)


def test_flops_are_those_that_reach_a_part_of_the_best_accuracy_of_the_baseline() -> None:
    runs = {f"seed{seed}": reach_of(trained("a", seed, (0.5, 0.8))) for seed in (0, 1)}
    shares = shares_of_flops(runs, runs)
    # confidences say nothing, so accuracy rises in proportion to flops
    expected = [0.5 + 0.5 * (share * 0.8 - 0.5) / 0.3 for share in (0.95, 0.98, 0.99)]
    np.testing.assert_allclose(shares, expected, atol=0.05)
    low = {"seed0": reach_of(trained("b", 0, (0.3, 0.4)))}
    assert np.isnan(shares_of_flops(low, runs)).all(), "it never reaches them"
    assert np.isnan(shares_of_flops({"seed7": low["seed0"]}, runs)).all(), "no common seed"


def test_the_table_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = table(RUNS, [JOINT, OTHER], {"joint": 1.0})
    print_table(lines, 200, 100)
    printed = capsys.readouterr().out
    assert "other                             1     2" in printed
    assert "+15.00 ±5.00" in printed
    assert "on 200 test images" in printed
    write_summary(tmp_path / "evidence.csv", lines)
    with (tmp_path / "evidence.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["difference"] for row in read][:3] == ["", "", "15.0"]
    assert [row["step"] for row in read] == ["1.0", "1.0", "", ""]
    write_runs(tmp_path / "runs.csv", RUNS)
    with (tmp_path / "runs.csv").open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert first == {
        "row": "joint",
        "seed": "seed0",
        "exit": "1",
        "flops": "1000000",
        "test_accuracy": "0.6",
        "held_out_accuracy": "0.6",
    }
