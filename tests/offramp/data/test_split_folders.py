"""Folders with the names of splits that have images beside their class folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from tests.offramp.data.trees import counts, error_of, photos, put, reasons


@pytest.mark.parametrize("splits", [("train", "test"), ("Train", "val", "TEST"), ("dev", "train")])
def test_images_beside_the_class_folders_of_every_split_are_left_out(
    tmp_path: Path, splits: tuple[str, ...]
) -> None:
    photos(tmp_path, [f"{split}/{label}" for split in splits for label in ("cat", "dog/2020")])
    put(tmp_path, *(f"{split}/stray.png" for split in splits))
    found = read_dataset(tmp_path)
    assert found.classes == ("cat", "dog")
    assert len(found.parts) == len(splits)
    assert reasons(found) == {
        f"{split}/stray.png": "is beside the class folders" for split in splits
    }


def test_one_class_folder_in_common_makes_two_splits(tmp_path: Path) -> None:
    photos(tmp_path, ["train", "train/cat", "train/dog", "test", "test/cat"], 2)
    assert counts(read_dataset(tmp_path)) == {"train": {"cat": 2, "dog": 2}, "test": {"cat": 2}}


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_folder_alone_with_the_name_of_a_split_is_one(tmp_path: Path, split: str) -> None:
    photos(tmp_path, [split, f"{split}/cat", f"{split}/dog"], 2)
    assert counts(read_dataset(tmp_path)) == {split: {"cat": 2, "dog": 2}}


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["train", "train/cat", "test", "test/dog"], "test as a split, or as a class like train"),
        (["train", "train/cat", "train/dog", "test"], "train as a split, or as a class like test"),
        (["train", "train/cat", "train/dog", "docs"], "train as a split, or as a class like docs"),
        (["train", "train/a", "val", "val/a", "bus"], "train, val as a split, or as a class like "),
    ],
)
def test_images_beside_class_folders_and_another_folder_are_two_readings(
    tmp_path: Path, folders: list[str], says: str
) -> None:
    error = error_of(photos(tmp_path, folders))
    assert f"{tmp_path} can be read in two ways: {says}" in error


def test_splits_in_a_split_with_images_beside_their_class_folders_are_two_readings(
    tmp_path: Path,
) -> None:
    photos(tmp_path, [f"train/{split}/{label}" for split in ("train", "val") for label in "ab"])
    put(tmp_path, "train/train/x.png", "train/val/x.png")
    error = error_of(tmp_path)
    assert "train, val in train as splits, or as classes" in error


@pytest.mark.parametrize(
    "names",
    [
        ("test_set", "training_set"),
        ("Testing", "Trainset", "Validation data"),
        ("eval", "train-images"),
        ("seg_test/seg_test", "seg_train/seg_train"),
    ],
)
def test_splits_with_names_of_another_form_are_two_readings(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    photos(tmp_path, [f"{name}/{label}" for name in names for label in ("cat", "dog")])
    error = error_of(tmp_path)
    assert f"two ways: {', '.join(name.partition('/')[0] for name in names)} as splits, or" in error
    assert "If they are splits, name them train, validation or test" in error


@pytest.mark.parametrize(
    "folders",
    [
        ["freight train/2020", "high-speed train/2020"],
        ["tests/a", "trains/a", "buses/a"],
        ["tests/a", "trains"],
        ["contest/a", "strain/a"],
    ],
)
def test_classes_with_words_of_splits_are_classes(tmp_path: Path, folders: list[str]) -> None:
    found = read_dataset(photos(tmp_path, folders))
    assert set(found.classes) == {folder.partition("/")[0] for folder in folders}


@pytest.mark.parametrize(
    "folders",
    [
        ["cat/train", "cat/test", "dog/train", "dog/test"],
        ["cat/Train/2020", "cat/Val", "dog"],
        ["dog", "dog/test", "dog/train", "bus/2020"],
        ["cat/a/train", "cat/a/test", "dog/a"],
        ["cat/training", "cat/evaluation", "dog/a"],
        ["train/cat/train", "train/cat/test", "train/dog", "test/cat"],
    ],
)
def test_splits_in_class_folders_are_two_readings(tmp_path: Path, folders: list[str]) -> None:
    error = error_of(photos(tmp_path, folders))
    assert f"{tmp_path} can be read in two ways: " in error
    assert "as splits of a class, or as parts of it that are one set" in error
    assert "put the class folders into folders train, validation or test, as " in error


def test_one_folder_in_a_class_with_the_name_of_a_split_is_a_part_of_it(tmp_path: Path) -> None:
    photos(tmp_path, ["railway/train", "railway/wagon", "sky/val", "sky/valid"], 2)
    assert counts(read_dataset(tmp_path)) == {"train": {"railway": 4, "sky": 4}}


def test_splits_one_folder_deeper_are_a_set_that_can_be_given(tmp_path: Path) -> None:
    found = read_dataset(photos(tmp_path, ["set/train/cat", "set/train/dog", "set/test/cat"]))
    with pytest.raises(DatasetError, match=r"has one class, set.* --data .*/set$"):
        found.check_trainable()
