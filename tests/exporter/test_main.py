"""The commands of the exporter, run as a user runs them."""

import io
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from exporter.__main__ import export, main, recalibrate
from exporter.quantize.__main__ import main as quantize
from exporter.run import unfinished
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.values import Confidence
from tests.exporter.exported import SMALLER
from tests.offramp.pictures import write_files
from tests.training.samples import (
    PARQUET,
    finished_progress,
    source_with_test,
    untrained_checkpoint,
)
from training.fit.checkpoint import Epoch, save_checkpoint
from training.networks.confidence import CONFIDENCES


@dataclass(frozen=True)
class Made:
    """A bundle that the command made of a checkpoint, its inputs, and the command's output."""

    bundle: Path
    source: str
    reject: tuple[str, ...]
    printed: str

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.bundle)


PROMISES = ("--promises", "70%,99%", "--delta", "0.1")
REFUSED = "promise 99%       cannot be certified on"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Export a checkpoint by the command, with all that an export can fit."""
    folder = tmp_path_factory.mktemp("made")
    checkpoint, bundle = folder / "checkpoint.safetensors", folder / "bundle"
    save_checkpoint(checkpoint, untrained_checkpoint(finished_progress(**SMALLER)))
    write_files(folder / "others", 30)
    (folder / "images").mkdir()
    source = source_with_test(folder / "images", images=60)
    reject = ("--reject", str(folder / "others"), "--reject-rate", "0.2")
    options = ["--data", source, "--confidence", "margin", "--name", "mine", *reject, *PROMISES]
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["--checkpoint", str(checkpoint), "--out", str(bundle), *options]) == 0
    return Made(bundle, source, reject, printed.getvalue())


def test_a_checkpoint_becomes_a_bundle_that_can_be_recalibrated(made: Made, tmp_path: Path) -> None:
    manifest = made.manifest
    assert (manifest.name, manifest.version, manifest.confidence) == ("mine", "1", "margin")
    assert "warning: only 100 held-out images" in made.printed

    options = ["--bundle", str(made.bundle), "--data", made.source]
    options += ["--version", "2", "--split", "test"]
    assert main([*options, "--out", str(tmp_path / "second")]) == 0
    again = read_manifest(tmp_path / "second")
    assert (again.name, again.version) == ("mine", "2")
    assert again.held_out.source.endswith(", test")
    assert again.held_out.images == 60

    options = ["--bundle", str(made.bundle), "--data", made.source]
    options += ["--held-out", "--solve-for", "accuracy"]
    assert main([*options, "--out", str(tmp_path / "third")]) == 0
    same = read_manifest(tmp_path / "third")
    assert same.held_out == manifest.held_out
    assert [each.accuracy for each in same.stages] == [each.accuracy for each in manifest.stages]
    assert (manifest.solved_for, same.solved_for) == ("agreement", "accuracy")


def test_reject_is_fitted_by_export_and_recalibrate_and_ends_without_it(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made.manifest.reject
    assert first is not None
    assert (first.false_reject, first.images, first.source) == (0.2, 30, "others")
    assert "AUROC" in made.printed

    options = ["--bundle", str(made.bundle), "--data", made.source, "--split", "test"]
    assert recalibrate([*options, "--out", str(tmp_path / "second")]) == 0
    assert read_manifest(tmp_path / "second").reject is None
    assert "--reject PHOTOS fits it again" in capsys.readouterr().out
    assert recalibrate([*options, "--out", str(tmp_path / "third"), *made.reject]) == 0
    assert read_manifest(tmp_path / "third").reject is not None

    options = ["--bundle", str(made.bundle), "--data", made.source, "--precision", "fp16"]
    assert quantize([*options, "--out", str(tmp_path / "half")]) == 0
    assert read_manifest(tmp_path / "half").reject is None
    assert "--reject PHOTOS fits it again" in capsys.readouterr().out
    assert quantize([*options, "--out", str(tmp_path / "both"), *made.reject]) == 0
    assert read_manifest(tmp_path / "both").reject is not None


def test_promises_are_certified_by_every_command_that_makes_a_bundle(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--bundle", str(made.bundle), "--data", made.source, *PROMISES]
    assert recalibrate([*options, "--out", str(tmp_path / "second")]) == 0
    assert quantize([*options, "--out", str(tmp_path / "half"), "--precision", "fp16"]) == 0
    for folder in (made.bundle, tmp_path / "second", tmp_path / "half"):
        manifest = read_manifest(folder)
        assert manifest.promises is not None
        assert [str(each.level) for each in manifest.promises.offered] == ["70%"]
        assert manifest.promises.graphs == tuple(stage.sha256 for stage in manifest.stages)
    assert [text.count(REFUSED) for text in (made.printed, capsys.readouterr().out)] == [1, 2]
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
        (export, ["--checkpoint=x", "--out=y", "--promises="], 1, "--promises: '' is not a share"),
        (quantize, ["--bundle=x", "--out=y", "--data=z", "--promises="], 1, "--promises: ''"),
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


def test_a_run_whose_patience_is_exhausted_is_finished() -> None:
    progress = finished_progress(epochs=60, patience=2)
    assert unfinished(progress) is not None
    worse = [Epoch(number=n, loss=1, accuracies=(0.1, 0.2), seconds=1) for n in (3, 4)]
    progress = progress.model_copy(update={"epochs": (*progress.epochs, *worse)})
    assert unfinished(progress) is None


def test_the_confidences_are_those_of_the_registry() -> None:
    assert get_args(Confidence) == tuple(CONFIDENCES)
