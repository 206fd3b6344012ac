"""The images that are held out, by class and by seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.training.data.insects import image_folder
from tests.training.samples import PARQUET, tiny_dataset
from training.data.datasets import load_dataset, open_dataset
from training.errors import DataError

OLD_ROWS = [486, 288, 483, 147, 380, 440, 466, 20]


def test_the_split_depends_on_the_seed_only() -> None:
    first, again = tiny_dataset(), load_dataset(str(PARQUET), 32, held_out=100, seed=0)
    other = load_dataset(str(PARQUET), 32, held_out=100, seed=1)
    assert torch.equal(first.held_out.pixels, again.held_out.pixels)
    assert not torch.equal(first.held_out.pixels, other.held_out.pixels)


def test_holding_out_all_images_raises_an_error() -> None:
    with pytest.raises(DataError, match=r"held_out: 500 of 500 .* \(--held-out N\)"):
        load_dataset(str(PARQUET), 32, held_out=500, seed=0)


def test_the_held_out_images_of_version_0_1_are_drawn_as_then() -> None:
    """A golden value: checkpoints and bundles of version 0.1 depend on it."""
    dataset = open_dataset(str(PARQUET), 32, held_out=100, seed=3, split="random")
    assert dataset.held_out.rows[:8].tolist() == OLD_ROWS
    order = torch.randperm(500, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.cat([dataset.held_out.rows, dataset.train.rows]), order)


def test_a_folder_is_split_as_in_version_0_1(tmp_path: Path) -> None:
    """The order of files is that of `datasets`: by path."""
    folder = image_folder(tmp_path / "insects")
    dataset = open_dataset(str(folder), 24, held_out=4, seed=0, split="random")
    names = [file.name for part in (dataset.held_out, dataset.train) for file in part.files()]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    files = sorted(str(path) for path in folder.rglob("*.png"))
    assert names == [files[k] for k in order]


def test_each_class_is_held_out_in_proportion(tmp_path: Path) -> None:
    dataset = open_dataset(str(image_folder(tmp_path / "insects")), 24, None, seed=5)
    assert torch.bincount(dataset.held_out.targets).tolist() == [1, 1]
    names = {file.name for part in (dataset.held_out, dataset.train) for file in part.files()}
    assert len(names) == 12


def test_a_class_of_one_image_is_trained_on_and_warned_of(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "insects")
    (folder / "fly").mkdir()
    shutil.copy(folder / "ant" / "0.png", folder / "fly" / "0.png")
    for seed in range(5):
        dataset = open_dataset(str(folder), 24, None, seed=seed)
        assert torch.bincount(dataset.train.targets, minlength=3).tolist() == [5, 5, 1]
    few, lacking = dataset.warnings()
    assert few.startswith("warning: only 2 held-out images")
    assert lacking == (
        "warning: no held-out image of 1 of 3 classes: fly. Two images of each class would do"
    )


def test_a_class_that_is_not_held_out_has_the_remedy_of_its_cause(tmp_path: Path) -> None:
    def remedy(folder: Path, held_out: int | None) -> str:
        return [*open_dataset(str(folder), 24, held_out, 0).warnings()][-1].partition(". ")[2]

    folder = image_folder(tmp_path / "insects")
    assert remedy(folder, 1) == "A larger --held-out would do"
    shutil.copytree(folder, tmp_path / "splits" / "train")
    shutil.copytree(folder / "ant", tmp_path / "splits" / "val" / "ant")
    assert remedy(tmp_path / "splits", None) == "Add some to the validation split"
    (folder / "fly").mkdir()
    shutil.copy(folder / "ant" / "0.png", folder / "fly" / "0.png")
    assert remedy(folder, 1) == "Two images of each class, and a larger --held-out, would do"


def test_the_training_images_are_in_random_order_beside_a_validation_split(
    tmp_path: Path,
) -> None:
    for split in ("train", "dev"):
        image_folder(tmp_path / split)
    dataset = open_dataset(str(tmp_path), 24, None, seed=0)
    assert (len(dataset.train), len(dataset.held_out)) == (12, 12)
    assert dataset.train.rows.tolist() != sorted(dataset.train.rows.tolist())
    assert 0 < sum(dataset.train.targets[:6].tolist()) < 6, "not one class after the other"
