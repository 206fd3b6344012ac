"""The rules for folders: which folders are classes, which are splits, and what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from tests.offramp.data.trees import counts, encoded, error_of, loaded, photos, put, reasons


@pytest.mark.parametrize(
    "labels",
    [
        ("bus", "car", "freight train", "high-speed train"),
        ("bus", "car", "train"),
        ("sun", "test", "zebra"),
        ("test", "train"),
        ("dev", "val", "validation"),
        ("__background__", "cat"),
        ("Training set", "train-old", "tests"),
        ("a [v1]", "b*", "c?"),
        ("10", "9"),
        ("crème brûlée", "寿司"),
    ],
)
def test_a_folder_with_images_in_it_is_a_class_whatever_its_name(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    found = read_dataset(photos(tmp_path / "set [1]*", labels))
    assert found.classes == tuple(sorted(labels))
    assert counts(found) == {"train": dict.fromkeys(sorted(labels), 3)}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Train", "Valid", "Test"), ("TRAINING", "dev", "TEST")],
)
def test_a_folder_with_the_exact_name_of_a_split_and_class_folders_in_it_is_a_split(
    tmp_path: Path, train: str, validation: str, test: str
) -> None:
    for split, number in ((train, 4), (validation, 2), (test, 1)):
        photos(tmp_path, [f"{split}/cat", f"{split}/dog/2020"], number)
    assert counts(read_dataset(tmp_path)) == {
        "train": {"cat": 4, "dog": 4},
        "validation": {"cat": 2, "dog": 2},
        "test": {"cat": 1, "dog": 1},
    }


def test_deeper_folders_belong_to_their_class(tmp_path: Path) -> None:
    photos(tmp_path, ["cat", "cat/2020", "cat/2020/train", "dog/test/a/b"])
    assert counts(read_dataset(tmp_path)) == {"train": {"cat": 9, "dog": 3}}


def test_names_of_files_decide_nothing(tmp_path: Path) -> None:
    put(tmp_path, "cat/bullet train 1.png", "cat/test_2.jpg", "cat/photo", "dog/val.txt")
    assert counts(read_dataset(tmp_path)) == {"train": {"cat": 3, "dog": 1}}


def test_a_class_named_as_a_split_keeps_its_deeper_folders(tmp_path: Path) -> None:
    photos(tmp_path, ["train", "train/steam", "bus"])
    assert counts(read_dataset(tmp_path)) == {"train": {"bus": 3, "train": 6}}


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["train/steam", "train/diesel", "bus"], "train as a split, or as a class like bus beside"),
        (["train/cat", "train/dog", "test"], "train as a split, or as a class like test beside it"),
        (["train/2020", "test", "test/2021"], "train as a split, or as a class like test beside"),
    ],
)
def test_two_possible_readings_are_an_error_with_both_remedies(
    tmp_path: Path, folders: list[str], says: str
) -> None:
    error = error_of(photos(tmp_path, folders))
    assert f"{tmp_path} can be read in two ways: {says}" in error
    assert "If train is a split with the classes " in error
    assert "If train is a class, move its images out of the folders in it" in error


def test_an_image_beside_the_class_folders_of_a_split_is_left_out(tmp_path: Path) -> None:
    photos(tmp_path, ["train/cat", "train/dog", "test/cat", "test/dog"])
    put(tmp_path, "train/overview.png")
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"cat": 3, "dog": 3}, "test": {"cat": 3, "dog": 3}}
    assert reasons(found) == {"train/overview.png": "is beside the class folders"}


@pytest.mark.parametrize(("one", "other"), [("val", "valid"), ("train", "training")])
def test_two_folders_for_one_split_are_refused(tmp_path: Path, one: str, other: str) -> None:
    error = error_of(photos(tmp_path, [f"{one}/cat", f"{other}/cat", f"{other}/dog"]))
    assert f"{one} and {other} are both the split " in error
    assert error.endswith("Merge them")


def test_everything_that_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    photos(tmp_path, ["cat", "dog/more"])
    put(tmp_path, "overview.png")
    put(tmp_path, "backup.zip", content=b"PK\x03\x04rest")
    put(tmp_path, "metadata.csv", content=b"file_name,photographer\n")
    put(tmp_path, "index.parquet", content=b"PAR1rest")
    put(tmp_path, "dog/notes.txt", content=b"notes")
    put(tmp_path, "dog/more/empty.jpg", content=b"")
    put(tmp_path, "docs/readme", content=b"readme")
    (tmp_path / "wolf").mkdir()
    (tmp_path / "cat" / "drafts").mkdir()
    (tmp_path / "cat" / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "cat" / "pipe")
    put(tmp_path, "Thumbs.db", ".DS_Store", "dog/._0.png", "__MACOSX/0.png", "dog/@eaDir/0.png")
    put(tmp_path, "#recycle/0.png", "@Recycle/dog/0.png")
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"cat": 3, "dog": 3}}
    assert found.hidden == 7
    assert reasons(found) == {
        "overview.png": "is beside the class folders",
        "backup.zip": "is a zip archive. Unpack it to use what is in it",
        "metadata.csv": "is a table beside class folders, which give the labels. To use the "
        f"labels in it, give the table: --data {tmp_path}/metadata.csv",
        "index.parquet": "is a parquet file beside class folders, which give the labels",
        "dog/notes.txt": "is not an image in a format that is read",
        "dog/more/empty.jpg": "is empty",
        "docs": "is a folder without images",
        "docs/readme": "is not an image in a format that is read",
        "wolf": "is a folder without images",
        "cat/drafts": "is a folder without images",
        "cat/gone.png": "is a broken link",
        "cat/pipe": "is not a regular file",
    }


def test_strict_makes_files_that_are_left_out_an_error(tmp_path: Path) -> None:
    photos(tmp_path, ["cat", "dog"])
    put(tmp_path, ".DS_Store", content=b"litter")
    read_dataset(tmp_path).check_strict()
    put(tmp_path, *(f"cat/{i}.txt" for i in range(30)), content=b"text")
    with pytest.raises(DatasetError, match=r"30 left out, and --strict .* cat/0\.txt is not an .*"):
        read_dataset(tmp_path).check_strict()


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    photos(tmp_path / "elsewhere", ["cats", "dogs/2020"])
    root = tmp_path / "set"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    put(root, "eel/0.png")
    put(tmp_path, "elsewhere/1.png")
    (root / "eel" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    link = tmp_path / "link"
    link.symlink_to(root)
    for source in (root, link):
        assert counts(read_dataset(source)) == {"train": {"cat": 3, "dog": 3, "eel": 2}}


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_back_to_a_folder_above_is_refused_by_name(tmp_path: Path, target: str) -> None:
    photos(tmp_path / "set", ["cat", "dog/2020"])
    root = tmp_path / "set"
    (root / "dog" / "2020" / "loop").symlink_to(target)
    error = error_of(root)
    assert f"{root}/dog/2020/loop links back to {root}" in error
    assert error.endswith("Remove the link")


def test_two_links_to_one_folder_are_refused(tmp_path: Path) -> None:
    photos(tmp_path, ["cat"])
    (tmp_path / "dog").symlink_to("cat")
    error = error_of(tmp_path)
    assert f"{tmp_path}/dog and {tmp_path}/cat are links to the same folder" in error


@pytest.mark.parametrize("inner", [["train", "val"], ["Test", "cat"]])
def test_splits_in_a_split_are_ambiguous(tmp_path: Path, inner: list[str]) -> None:
    photos(tmp_path, [f"train/{name}/cat" for name in inner] + ["train/eel"])
    error = error_of(tmp_path)
    assert f"{tmp_path} can be read in two ways: {inner[0]}" in error
    assert f"in train as splits, or as classes. If they are splits, give {tmp_path}/train" in error
    photos(tmp_path, [f"train/{name}" for name in inner])  # now with images of their own
    assert set(counts(read_dataset(tmp_path))["train"]) == {*inner, "eel"}


def test_a_flat_folder_of_images_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    error = error_of(tmp_path)
    assert "is a flat folder: 2 images directly in it, and no class folders" in error
    assert "a table with the columns file and label (CSV or JSONL)" in error


def test_a_folder_without_images_names_what_is_in_it(tmp_path: Path) -> None:
    put(tmp_path, "cat/a.txt", content=b"text")
    assert error_of(tmp_path).endswith(
        "for each class, or a table or parquet file. Left out: "
        "cat/a.txt is not an image in a format that is read"
    )


def test_a_folder_that_cannot_be_entered_is_left_out(tmp_path: Path) -> None:
    photos(tmp_path, ["cat", "dog"])
    (tmp_path / "dog").chmod(0)
    try:
        if os.access(tmp_path / "dog", os.R_OK):
            pytest.skip("this user can read every folder")
        assert reasons(read_dataset(tmp_path)) == {"dog": "cannot be opened: Permission denied"}
    finally:
        (tmp_path / "dog").chmod(0o700)


def test_names_that_are_not_utf_8_are_read_as_files_and_refused_as_labels(tmp_path: Path) -> None:
    photos(tmp_path, ["cat", "dog"])
    odd = os.fsdecode(b"odd\xff")
    (tmp_path / "cat" / f"{odd}.png").write_bytes(encoded())
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"cat": 4, "dog": 3}}
    assert f"cat/{odd}.png" in loaded(found)["train"]
    (tmp_path / odd).mkdir()
    (tmp_path / odd / "0.png").write_bytes(encoded())
    assert "the name of the class folder odd\\xff is not UTF-8. Rename it" in error_of(tmp_path)


def test_images_keep_the_label_of_their_folder(tmp_path: Path) -> None:
    photos(tmp_path, ["dog", "cat/b", "cat"], 12)
    assert all(
        name.partition("/")[0] == label
        for name, label in loaded(read_dataset(tmp_path))["train"].items()
    )


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["cat"], "has one class, cat. A network needs at least two"),
        (["photos/cat", "photos/dog"], "If cat, dog in it are the classes or splits, give that"),
        (["train/cat", "train/dog", "test/cat", "test/fox"], "no training image of fox, only imag"),
        (["train/cat", "train/dog", "dev/fox"], "of fox, only images in validation. Add some to"),
        (["test/cat", "test/dog"], "has no split 'train', only test"),
    ],
)
def test_a_set_that_no_network_can_learn_from_says_why(
    tmp_path: Path, folders: list[str], says: str
) -> None:
    found = read_dataset(photos(tmp_path, folders))
    with pytest.raises(DatasetError, match=says):
        found.check_trainable()
