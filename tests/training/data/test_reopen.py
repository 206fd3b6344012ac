"""Runs that left damaged images out find the same images again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.samples import tiny_progress
from training.data.datasets import open_dataset
from training.data.reopen import reopen_dataset, without_damaged
from training.errors import CheckpointError, DataError
from training.evaluation.assessment import own_dataset
from training.fit.checkpoint import Progress

SIZE = 24


def folder_of(root: Path, damaged: int | None, number: int = 8) -> str:
    """Write two classes of photos, and cut the file of one of them short."""
    rng = np.random.default_rng(0)
    for label in ("ant", "bee"):
        (root / label).mkdir(parents=True)
        for i in range(number):
            pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    if damaged is not None:
        path = root / "ant" / f"{damaged}.png"
        path.write_bytes(path.read_bytes()[:200])
    return str(root)


def progress_of(source: str) -> Progress:
    whole, errors = without_damaged(open_dataset(source, SIZE, 4, 0))
    assert len(errors) == 1
    changed = tiny_progress(size=SIZE, held_out=4).model_dump() | {
        "train_images": len(whole.train),
        "fingerprint": whole.fingerprint(),
    }
    return Progress.model_validate(changed)


@pytest.mark.parametrize("damaged", range(8))
def test_a_run_that_left_damaged_images_out_finds_its_images_again(
    tmp_path: Path, damaged: int
) -> None:
    source = folder_of(tmp_path / "set", damaged)
    progress = progress_of(source)
    again = own_dataset(progress, source)
    assert again.fingerprint() == progress.fingerprint
    assert len(again.train) + len(again.held_out) == 15


def test_images_that_were_left_out_are_not_in_the_table(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder_of(tmp_path / "set" / split, 3)
    opened = open_dataset(str(tmp_path / "set"), SIZE, 4, 0)
    summary = without_damaged(opened)[0].summary()
    assert summary is not None
    lines = [*summary.lines()]
    assert lines[0].endswith("2 classes, 30 images")
    assert lines[4].split() == ["all", "11", "4", "15"]
    assert lines[5:] == ["  sizes: 40 x 30 pixels", "  formats: 30 PNG"]


def test_images_that_became_damaged_later_are_an_error(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "set", None)
    opened = open_dataset(source, SIZE, 4, 0)
    changed = {"train_images": len(opened.train), "fingerprint": opened.fingerprint()}
    progress = Progress.model_validate(tiny_progress(size=SIZE, held_out=4).model_dump() | changed)
    held = next(file.name for file in opened.held_out.files())
    path = Path(source, held)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=held):
        own_dataset(progress, source)
    other = progress.model_copy(update={"fingerprint": "0"})
    path.unlink()
    with pytest.raises(CheckpointError, match="is not the data of the checkpoint"):
        own_dataset(other, source)


def test_a_class_of_damaged_images_is_an_error(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "set", None, number=3)
    for path in Path(source, "bee").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="all are damaged, so no training image of bee is left"):
        without_damaged(open_dataset(source, SIZE, 2, 0))


def test_whole_images_are_opened_as_they_are(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "set", None)
    opened = open_dataset(source, SIZE, 4, 0)
    recipe = tiny_progress(size=SIZE, held_out=4).recipe
    again = reopen_dataset(source, recipe, (len(opened.train), None))
    assert torch.equal(again.train.rows, opened.train.rows)
