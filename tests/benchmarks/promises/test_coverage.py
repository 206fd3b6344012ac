from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.promises.coverage import main, report
from exporter.promises.certificate import Outputs, agreeing
from offramp.bundle.manifest import read_manifest
from tests.serving.small_bundle import write_bundle


def test_certified_points_break_less_often_than_those_read_off_the_mean(tmp_path: Path) -> None:
    manifest = read_manifest(write_bundle(tmp_path / "testnet"))
    rng = np.random.default_rng(0)
    targets, confidence = rng.integers(0, 2, 4000), rng.beta(6, 0.8, (4, 4000))
    wrong = rng.random((4, 4000)) >= confidence
    classes = np.where(wrong, 1 - targets, targets)
    outputs = Outputs(confidence.astype(np.float32), classes)
    population = agreeing(manifest, outputs, np.arange(4000))
    report(manifest, population, 15, tmp_path / "coverage.csv")
    with (tmp_path / "coverage.csv").open() as file:
        rows = list(csv.DictReader(file))
    broken = {(row["kind"], row["epsilon"], row["rule"]): float(row["broken"]) for row in rows}
    assert len(broken) == 20
    for (kind, epsilon, rule), share in broken.items():
        if rule == "certified":
            assert share <= min(0.2, broken[kind, epsilon, "mean"])
    assert (tmp_path / "coverage.png").stat().st_size > 1000


def test_the_table_has_the_images_of_each_promise(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--table"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[4].startswith("| 99% | 597 | 1,682 | 815 | ")
