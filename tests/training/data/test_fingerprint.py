"""The fingerprint shows other training images and labels, and not where they lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.training.samples import PARQUET, TINY, tiny_progress
from training.data.datasets import Dataset, open_dataset
from training.data.fingerprint import has_training_images
from training.data.images import ImageFiles
from training.data.prepare import run_images
from training.errors import CheckpointError, DataError
from training.evaluation.assessment import own_dataset
from training.fit.checkpoint import Progress
from training.fit.same_run import check_same_run, moved

OLD = "0" * 64


def photos(root: Path, suffix: str = "png") -> Path:
    """Write two classes of training and of validation images."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("ant", "bee"):
            (root / split / label).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i}.{suffix}")
    return root


def opened(folder: Path) -> Dataset[ImageFiles]:
    return open_dataset(str(folder), 16, None, 0)


def progress_of(folder: Path, like: str) -> Progress:
    dataset = opened(folder)
    return tiny_progress(size=16, held_out=None, data=str(folder)).model_copy(
        update={
            "labels": dataset.labels,
            "train_images": len(dataset.train),
            "fingerprint": dataset.fingerprint(like),
        }
    )


def exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize("suffix", ["png", "bmp"])  # the files of BMP have one size
@pytest.mark.parametrize("places", [("train/ant", "train/bee"), ("train/ant/0", "train/bee/3")])
def test_exchanged_labels_of_training_images_are_other_images(
    tmp_path: Path, places: tuple[str, str], suffix: str
) -> None:
    folder = photos(tmp_path, suffix)
    before = progress_of(folder, "2-")
    one, other = (f"{each}.{suffix}" if each[-1].isdigit() else each for each in places)
    exchange(folder / one, folder / other)
    with pytest.raises(CheckpointError, match=r"^data: the run to resume used other images"):
        check_same_run(before, progress_of(folder, before.fingerprint))
    with pytest.raises(CheckpointError, match="is not the data of the checkpoint"):
        own_dataset(before, str(folder))


def test_images_that_moved_or_were_touched_are_the_same(tmp_path: Path) -> None:
    before = progress_of(photos(tmp_path / "one"), "2-")
    shutil.move(tmp_path / "one", tmp_path / "other")
    for path in (tmp_path / "other").rglob("*.png"):
        os.utime(path, (0, 0))
    now = progress_of(tmp_path / "other", before.fingerprint)
    check_same_run(before, now)
    line = moved(before, now)
    assert line is not None
    assert line.endswith(f"The images of {tmp_path}/other are the same")
    assert own_dataset(before, str(tmp_path / "other")).labels == ("ant", "bee")


def test_older_checkpoints_keep_the_form_of_their_fingerprint(tmp_path: Path) -> None:
    folder = photos(tmp_path)
    before = progress_of(folder, OLD)
    assert len(before.fingerprint) == len(OLD)
    assert not has_training_images(before.fingerprint)
    now = progress_of(folder, before.fingerprint).model_copy(
        update={"recipe": before.recipe.model_copy(update={"data": "./here"})}
    )
    check_same_run(before, now)
    line = moved(before, now)
    assert line is not None
    assert line.endswith("The held-out images of ./here are the same")
    assert own_dataset(before, str(folder)).fingerprint(OLD) == before.fingerprint


def test_a_changed_cell_of_a_table_is_another_image(tmp_path: Path) -> None:
    table = parquet.read_table(PARQUET).slice(0, 40)
    splits = ["train", "val"] * 20
    cells = table["img"].to_pylist()
    prints = set()
    for changed in (None, 2, 3):
        images = list(cells)
        if changed is not None:
            images[changed] = cells[changed + 2]
        columns = {"img": images, "label": table["label"].to_pylist(), "split": splits}
        parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
        prints.add(open_dataset(str(tmp_path), 32, None, 0).fingerprint())
    assert len(prints) == 3


def test_shrunk_images_have_the_fingerprint_of_their_files(tmp_path: Path) -> None:
    from rich.console import Console

    dataset = opened(photos(tmp_path / "set"))
    recipe = TINY.model_copy(update={"size": 16, "shrink": True, "crop": "resized"})
    made = run_images(dataset, recipe, "disk", tmp_path / "cache", Console(quiet=True))
    assert made.fingerprint() == dataset.fingerprint() == dataset.decoded().fingerprint()


def test_a_training_image_that_vanishes_is_named(tmp_path: Path) -> None:
    dataset = opened(photos(tmp_path))
    (tmp_path / "train" / "ant" / "0.png").unlink()
    with pytest.raises(DataError, match=r"train/ant/0\.png cannot be read: No such file"):
        dataset.fingerprint()
