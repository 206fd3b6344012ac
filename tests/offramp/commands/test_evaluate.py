from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest
from offramp.commands.evaluate import main
from tests.offramp.pictures import DAMAGED, write_files


@pytest.fixture
def data(tmp_path: Path, manifest: Manifest) -> Path:
    for number, label in enumerate(manifest.labels):
        write_files(tmp_path / "data" / label, 5, number)
    return tmp_path / "data"


def test_a_table_shows_each_budget_beside_the_manifest(
    bundle: Path, data: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--bundle", str(bundle), "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{manifest.name} {manifest.version}: 50 images of train; ")
    for name in manifest.budgets:
        assert any(line.startswith(f"{name}: ") for line in lines)
    rows = [line.split()[0] for line in lines if line.startswith("  ") and line.split()]
    assert rows.count("accuracy") == rows.count("mean") == len(manifest.budgets)
    assert rows.count("exit") == manifest.exits * len(manifest.budgets)


def test_json_has_all_figures(bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--budget", "low", "--budget", "60%", "--format", "json"]
    assert main(["--bundle", str(bundle), "--data", str(data), *options]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert [budget["budget"] for budget in evaluation["budgets"]] == ["low", "60%"]
    assert (evaluation["images"], evaluation["split"]) == (50, "train")
    accuracy = evaluation["budgets"][0]["accuracy"]
    assert accuracy["interval"]["low"] <= accuracy["value"] <= accuracy["interval"]["high"]
    assert set(accuracy["stated"]) == {"value", "low", "high"}


def test_images_that_cannot_be_read_are_listed(
    bundle: Path, data: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / manifest.labels[0] / "broken.png").write_bytes(DAMAGED)
    assert main(["--bundle", str(bundle), "--data", str(data)]) == 0
    output = capsys.readouterr()
    assert "50 images of train, 1 skipped" in output.out
    assert "broken.png: cannot be decoded" in output.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--bundle", "BUNDLE"], 2),
        (["--bundle", "BUNDLE", "--data", "DATA", "--format", "xml"], 2),
        (["--bundle", "BUNDLE", "--data", "no/such"], 1),
        (["--bundle", "no/such", "--data", "DATA"], 1),
        (["--bundle", "BUNDLE", "--data", "DATA", "--budget", "cheap"], 1),
    ],
)
def test_exit_codes(
    arguments: list[str], code: int, bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"BUNDLE": str(bundle), "DATA": str(data)}
    assert main([names.get(word, word) for word in arguments]) == code
    assert capsys.readouterr().err.startswith("error: ")


def test_wrong_rejects_are_shown_beside_the_manifest(
    bundle: Path, reject_bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(data), "--budget", "low", "--budget", "60%"]
    assert main(["--bundle", str(reject_bundle), *options]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "wrong rejects" in line)
    assert line.split()[-3] == "0.5000"
    assert main(["--bundle", str(bundle), *options, "--format", "json"]) == 0
    assert "reject" not in capsys.readouterr().out


def test_the_split_that_was_measured_is_named(
    bundle: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        shutil.copytree(data, tmp_path / "splits" / split)
    options = ["--bundle", str(bundle), "--data", str(tmp_path / "splits"), "--budget", "low"]
    assert main(options) == 0
    assert ": 50 images of validation; " in capsys.readouterr().out
