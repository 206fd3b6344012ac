"""The commands of the exporter, run as a user runs them."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from exporter.__main__ import export, main, recalibrate
from exporter.quantize.__main__ import main as quantize
from exporter.run import unfinished
from offramp.bundle.manifest import read_manifest
from offramp.bundle.values import Confidence
from tests.exporter.exported import SMALLER
from tests.offramp.pictures import write_files
from tests.training.samples import (
    PARQUET,
    finished_progress,
    source_with_test,
    untrained_checkpoint,
)
from training.fit.checkpoint import save_checkpoint
from training.networks.confidence import CONFIDENCES


def test_a_checkpoint_becomes_a_bundle_that_can_be_recalibrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, bundle = tmp_path / "checkpoint.safetensors", tmp_path / "bundle"
    save_checkpoint(checkpoint, untrained_checkpoint(finished_progress(**SMALLER)))
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images", images=60)
    options = ["--data", source, "--confidence", "margin", "--name", "mine"]
    assert main(["--checkpoint", str(checkpoint), "--out", str(bundle), *options]) == 0
    manifest = read_manifest(bundle)
    assert (manifest.name, manifest.version, manifest.confidence) == ("mine", "1", "margin")
    assert "warning: only 100 held-out images" in capsys.readouterr().out

    options = ["--bundle", str(bundle), "--data", source, "--version", "2", "--split", "test"]
    assert main([*options, "--out", str(tmp_path / "second")]) == 0
    again = read_manifest(tmp_path / "second")
    assert (again.name, again.version) == ("mine", "2")
    assert again.held_out.source.endswith(", test")
    assert again.held_out.images == 60

    options = ["--bundle", str(bundle), "--data", source, "--held-out", "--solve-for", "accuracy"]
    assert main([*options, "--out", str(tmp_path / "third")]) == 0
    same = read_manifest(tmp_path / "third")
    assert same.held_out == manifest.held_out
    assert [each.accuracy for each in same.stages] == [each.accuracy for each in manifest.stages]
    assert (manifest.solved_for, same.solved_for) == ("agreement", "accuracy")


def test_reject_is_fitted_by_export_and_recalibrate_and_ends_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, bundle = tmp_path / "checkpoint.safetensors", tmp_path / "bundle"
    save_checkpoint(checkpoint, untrained_checkpoint(finished_progress(**SMALLER)))
    write_files(tmp_path / "others", 30)
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images", images=60)
    reject = ["--reject", str(tmp_path / "others"), "--reject-rate", "0.2"]
    options = ["--checkpoint", str(checkpoint), "--out", str(bundle), "--data", source]
    assert export([*options, *reject]) == 0
    first = read_manifest(bundle).reject
    assert first is not None
    assert (first.false_reject, first.images, first.source) == (0.2, 30, "others")
    assert "AUROC" in capsys.readouterr().out

    options = ["--bundle", str(bundle), "--data", source, "--split", "test"]
    assert recalibrate([*options, "--out", str(tmp_path / "second")]) == 0
    assert read_manifest(tmp_path / "second").reject is None
    assert "--reject PHOTOS fits it again" in capsys.readouterr().out
    assert recalibrate([*options, "--out", str(tmp_path / "third"), *reject]) == 0
    assert read_manifest(tmp_path / "third").reject is not None

    options = ["--bundle", str(bundle), "--data", source, "--precision", "fp16"]
    assert quantize([*options, "--out", str(tmp_path / "half")]) == 0
    assert read_manifest(tmp_path / "half").reject is None
    assert "--reject PHOTOS fits it again" in capsys.readouterr().out
    assert quantize([*options, "--out", str(tmp_path / "both"), *reject]) == 0
    assert read_manifest(tmp_path / "both").reject is not None


def test_promises_are_certified_by_every_command_that_makes_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, bundle = tmp_path / "checkpoint.safetensors", tmp_path / "bundle"
    save_checkpoint(checkpoint, untrained_checkpoint(finished_progress(**SMALLER)))
    promises = ["--data", str(PARQUET), "--promises", "70%,99%", "--delta", "0.1"]
    assert export(["--checkpoint", str(checkpoint), "--out", str(bundle), *promises]) == 0
    options = ["--bundle", str(bundle), *promises]
    assert recalibrate([*options, "--out", str(tmp_path / "second")]) == 0
    assert quantize([*options, "--out", str(tmp_path / "half"), "--precision", "fp16"]) == 0
    for folder in (bundle, tmp_path / "second", tmp_path / "half"):
        manifest = read_manifest(folder)
        assert manifest.promises is not None
        assert [str(each.level) for each in manifest.promises.offered] == ["70%"]
        assert manifest.promises.graphs == tuple(stage.sha256 for stage in manifest.stages)
    assert capsys.readouterr().out.count("promise 99%       cannot be certified on") == 3
    without = ["--promises", "null", "--out", str(tmp_path / "none")]
    assert quantize([*options[:4], "--precision", "fp16", *without]) == 0
    assert read_manifest(tmp_path / "none").promises is None
    assert "offramp certify certifies promises" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "code", "says"),
    [
        (
            export,
            ["--chekpoint", "x"],
            2,
            "--chekpoint: no such option; did you mean --checkpoint?",
        ),
        (export, ["--out", "x"], 2, "--checkpoint: a value is required"),
        (export, ["--checkpoint=x", "--out=y", "--confidence=best"], 2, "--confidence: best: "),
        (export, ["--checkpoint", "nowhere", "--out", "y"], 1, "nowhere"),
        (export, ["--checkpoint", str(PARQUET), "--out", "."], 1, "."),
        (recalibrate, ["--bundle", "x", "--out", "y"], 2, "--data: a value is required"),
        (recalibrate, ["--bundle=nowhere", "--out=y", "--data=z"], 1, "nowhere/manifest.json"),
        (main, ["--bundle=nowhere", "--out=y", "--data=z"], 1, "nowhere/manifest.json"),
        (main, ["--checkpoint", "x", "--bundle", "y"], 2, "--checkpoint: no such option"),
        (export, ["--checkpoint=x", "--out=y", "--name=Not Valid"], 1, "--name: "),
        (export, ["--checkpoint=x", f"--out={PARQUET}/y"], 1, "is not a folder"),
        (recalibrate, ["--bundle=x", "--out=y", "--data=z", "--version="], 1, "--version: "),
        (export, ["--checkpoint=x", "--out=y", "--reject-rate=1"], 2, "--reject-rate"),
        (quantize, ["--precison", "int8"], 2, "did you mean --precision?"),
        (quantize, ["--bundle=nowhere", "--out=y", "--data=z"], 1, "nowhere/manifest.json"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    command: object, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(command)
    assert command(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("module", ["exporter", "exporter.quantize", "training.report"])
def test_a_module_is_a_command_with_help(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.startswith("usage: ")
    assert "(required)" in ended.stdout


def test_the_export_of_a_run_that_was_stopped_says_so() -> None:
    assert unfinished(finished_progress()) is None
    line = unfinished(finished_progress(epochs=7))
    assert line == (
        "warning: this run was stopped after 2 of 7 epochs, and is exported as it is; --resume "
        "finishes it"
    )


def test_the_confidences_are_those_of_the_registry() -> None:
    assert get_args(Confidence) == tuple(CONFIDENCES)
