"""The command line, run as a user runs it."""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.offramp.data.trees import photos, put
from tests.training.samples import PARQUET, source_with_test, tiny_dataset
from training.__main__ import main
from training.data.datasets import open_dataset
from training.fit.checkpoint import load_checkpoint, save_checkpoint

OPTIONS = [
    "cifar-compact",
    f"--data={PARQUET}",
    *("--held-out=100", "--batch-size=100", "--epochs=2", "--device=cpu"),
    *("--shape.exits", "2", "--shape.step=1", "--shape.channels=4", "--shape.growth", "4"),
]


def test_errors_are_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["cifar-compact", "--data", "/nowhere", "--out", str(tmp_path / "run")])
    assert status == 1
    error = capsys.readouterr().err
    assert error.startswith("error: data: there is no file or folder /nowhere")
    assert error.count("\n") == 1


def test_wrong_options_are_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cifar-compact", "--out", "x", "--epohcs", "3"]) == 2
    error = capsys.readouterr().err
    assert error == "error: --epohcs: no such option; did you mean --epochs?\n"


def test_a_device_that_is_missing_is_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cifar-compact", "--out", str(tmp_path / "run"), "--device", "cuda:99"]) == 1
    assert capsys.readouterr().err.startswith("error: --device: cuda:99 cannot be used here")


@pytest.mark.parametrize(("damaged", "where"), [(20, "auto"), (0, "disk")])
def test_a_damaged_test_image_is_named_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: int, where: str
) -> None:
    source = source_with_test(tmp_path, damaged=damaged)
    options = [f"--data={source}", f"--images={where}", f"--out={tmp_path / 'run'}"]
    assert main([*OPTIONS, *options]) == 1
    assert capsys.readouterr().err.endswith(" is not an image; remove it\n")
    assert not (tmp_path / "run").exists()


def test_the_table_of_the_images_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "set [v1]", ["train/ant", "train/bee", "test/ant", "test/bee"], 20)
    put(folder, "train/notes [b].txt", content=b"text")
    out = tmp_path / "run"
    options = ["--data", str(folder), "--out", str(out), "--held-out", "4", "--epochs", "1"]
    assert main([*OPTIONS, *options]) == 0
    shown = capsys.readouterr().out
    lines = [
        f"data: {folder}: 2 classes, 80 images",
        "  class     train  held-out      test",
        "  ant          18         2        20",
        "  bee          18         2        20",
        "  all          36         4        40",
        "  sizes: 4 x 3 pixels",
        "  formats: 80 PNG",
        "  left out: 1",
        "    train/notes [b].txt is not an image in a format that is read",
    ]
    assert "\n".join(lines) in shown
    assert "warning: only 4 held-out images: accuracies are known to ±49 points" in shown
    assert (out / "data.txt").read_text(encoding="utf-8").splitlines() == lines
    assert main([*OPTIONS, *options, "--strict", "--out", str(tmp_path / "other")]) == 1
    assert "train/notes [b].txt is not an image" in capsys.readouterr().err


def test_other_images_are_refused_and_the_table_of_the_run_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photos(tmp_path / "set", ["ant", "bee"], 20), tmp_path / "run"
    options = [*OPTIONS, "--data", str(folder), "--out", str(out), "--held-out", "4"]
    assert main([*options, "--epochs", "1"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    put(folder, "bee/new.png")
    assert main([*options, "--epochs", "1", "--resume"]) == 1
    assert "data: the run to resume used other images" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_name_on_the_hub_that_cannot_be_loaded_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert main([*OPTIONS, "--data", "no-such/set", "--out", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr()
    assert "taken as a name on the Hugging Face hub" in printed.out
    assert printed.err.startswith(
        "error: data: there is no file or folder no-such/set, so this is taken as a name on the "
        "Hugging Face hub. From there it cannot be loaded: "
    )


def test_a_run_of_version_0_1_is_resumed_with_its_held_out_images(tmp_path: Path) -> None:
    options = [*OPTIONS, "--out", str(tmp_path), "--small-epochs=0"]
    assert main([*options, "--held-out-split", "random", "--epochs", "1"]) == 0
    checkpoint = tmp_path / "checkpoint.safetensors"
    saved = load_checkpoint(checkpoint)
    recipe = saved.progress.recipe.model_copy(update={"epochs": 2})
    progress = saved.progress.model_copy(update={"recipe": recipe})
    save_checkpoint(checkpoint, replace(saved, progress=progress))
    assert main([*options, "--resume"]) == 0
    assert len(load_checkpoint(checkpoint).progress.epochs) == 2


def test_a_run_with_an_older_fingerprint_is_resumed_and_keeps_it(tmp_path: Path) -> None:
    options = [*OPTIONS, "--out", str(tmp_path), "--small-epochs=0"]
    assert main([*options, "--epochs", "1"]) == 0
    checkpoint = tmp_path / "checkpoint.safetensors"
    saved = load_checkpoint(checkpoint)
    recipe = saved.progress.recipe
    opened = open_dataset(recipe.data, recipe.size, recipe.held_out, recipe.seed)
    older = {
        "recipe": recipe.model_copy(update={"epochs": 2}),
        "fingerprint": opened.fingerprint(""),
    }
    progress = saved.progress.model_copy(update=older)
    save_checkpoint(checkpoint, replace(saved, progress=progress))
    assert main([*options, "--resume"]) == 0
    resumed = load_checkpoint(checkpoint).progress
    assert len(resumed.epochs) == 2
    assert resumed.fingerprint == older["fingerprint"]


def test_a_run_on_shrunk_photos_is_resumed_from_its_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An epoch shows the time left of the run, and a line states the epoch that is exported."""
    folder = photos(tmp_path / "photos", ["ant", "bee"], 20)
    cache = ["--cache", str(tmp_path / "cache"), "--shrink", "true", "--crop", "resized"]
    options = [*OPTIONS, *cache, "--data", str(folder), "--held-out=4", "--workers=0"]
    options += ["--batch-size=12", "--epochs=8", "--patience=1", "--ema=0.9", "--lr=1e-6"]
    assert main([*options, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert " s left\n" in shown or " min left\n" in shown
    assert re.search(r"the weights of epoch \d of \d are exported", shown)
    made = sorted(path.name[:8] for path in (tmp_path / "cache").glob("[!.]*"))
    assert made == ["held-out", "train-pa"]
    assert main([*options, "--out", str(tmp_path / "run"), "--resume"]) == 0


@pytest.fixture
def small_files() -> Iterator[None]:
    """Limit the size of a file that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_checkpoint_without_room_is_one_line_and_leaves_no_partial_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # a folder, because a table would be cached, which needs room too
    folder = photos(tmp_path / "set", ["ant", "bee"], 20)
    options = [*OPTIONS, "--data", str(folder), "--held-out=4", "--out", str(tmp_path / "run")]
    assert main(options) == 1
    errors = capsys.readouterr().err
    path = tmp_path / "run" / "checkpoint.safetensors"
    assert errors.startswith(f"error: {path}: cannot be written: ")
    assert errors.count("\n") == 1
    assert not [each for each in path.parent.iterdir() if "checkpoint" in each.name]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "{place}/run"], "checkpoint.safetensors: the run exists; add --resume"),
        (["--out", "{place}/file"], "--out: {place}/file is not a folder"),
        (["--out", "{place}/file/run"], "--out: {place}/file is not a folder"),
        (["--out", "{place}/new", "--images=memory", "--crop=resized"], "--images: --crop resized"),
    ],
)
def test_a_refusal_that_needs_no_data_comes_before_torch_is_imported(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.safetensors").touch()
    (tmp_path / "file").touch()
    code = "import sys; from training.__main__ import main; main(); print('torch' in sys.modules)"
    words = [word.format(place=tmp_path) for word in arguments]
    command = [sys.executable, "-c", code, "cifar-compact", "--data", "no/such/set", *words]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert says.format(place=tmp_path) in ended.stderr
    assert ended.stdout == "False\n"


def test_sigterm_is_one_line_and_status_143(tmp_path: Path) -> None:
    tiny_dataset()  # the first to read the table shows a progress bar
    command = [sys.executable, "-m", "training", *OPTIONS, "--epochs=500"]
    command += ["--images=disk", "--workers=1", "--out", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment, text=True) as running:
        assert running.stdout is not None
        next(line for line in running.stdout if line.startswith("epoch   1/"))
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate()
    assert running.returncode == 143
    assert errors.startswith("stopped; to continue")
    assert errors.count("\n") == 1
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").progress.epochs


def test_ctrl_c_loses_the_running_epoch_at_most_and_resume_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    options = [*OPTIONS, "--data", source_with_test(tmp_path / "images"), "--epochs=8"]
    command = [sys.executable, "-m", "training", *options, "--out", str(tmp_path)]
    # one thread: beside other work, small steps on several would crawl
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("epoch   1/8"):
                running.send_signal(signal.SIGINT)
                break
        rest, errors = running.communicate()
    assert running.returncode == 130, errors
    assert "--resume" in errors
    seen = {line.split("/")[0] for line in rest.splitlines() if line.startswith("epoch")}
    done = len(seen | {"epoch   1"})
    checkpoint = tmp_path / "checkpoint.safetensors"
    # a checkpoint may have been written whose line was not
    assert done <= len(load_checkpoint(checkpoint).progress.epochs) <= done + 1 < 8
    assert main([*options, "--out", str(tmp_path), "--resume"]) == 0
    shown = capsys.readouterr().out
    assert "epoch   1/8" not in shown
    assert "epoch   8/8" in shown
    assert len(load_checkpoint(checkpoint).progress.epochs) == 8
    summary = (tmp_path / "summary.csv").read_text(encoding="utf-8")
    assert summary.count("\ntest,") == 3
