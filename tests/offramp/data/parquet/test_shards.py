"""Several parquet files: second names, missing files, and classes that differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from offramp.data.unlabelled import read_unlabelled
from tests.offramp.data.trees import counts, encoded, error_of, reasons


def write(path: Path, labels: Sequence[object] = (0, 1), names: list[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [encoded()] * len(labels), "label": labels})
    features = {"label": {"names": names, "_type": "ClassLabel"}} if names else {}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    write_table(table.replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize("hard", [True, False])
def test_a_second_name_of_a_file_is_left_out(tmp_path: Path, hard: bool) -> None:
    first, second = write(tmp_path / "train-0.parquet"), tmp_path / "in" / "train-1.parquet"
    second.parent.mkdir()
    (second.hardlink_to if hard else second.symlink_to)(first)
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"0": 1, "1": 1}}
    assert reasons(found) == {"in/train-1.parquet": "is a second name of train-0.parquet"}
    assert len(read_unlabelled(tmp_path).parts["train"].images) == 2
    assert len(read_unlabelled(tmp_path).left_out) == 1


def test_a_second_name_of_the_only_file_leaves_it_the_training_split(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").symlink_to(write(tmp_path / "a.parquet"))
    assert counts(read_dataset(tmp_path)) == {"train": {"0": 1, "1": 1}}


@pytest.mark.parametrize(("name", "split"), [("test.parquet", "test"), ("all.parquet", "no split")])
def test_a_second_name_in_another_split_is_refused(tmp_path: Path, name: str, split: str) -> None:
    (tmp_path / name).symlink_to(write(tmp_path / "train.parquet"))
    error = error_of(tmp_path)
    assert f"{tmp_path}/{name}" in error
    assert f" in {split}" in error
    assert "train.parquet" in error
    assert error.endswith("which is the same file. Remove one of them")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["train-00000-of-00003"], "train-00001-of-00003, train-00002-of-00003 of 3 parquet"),
        (["train-1-of-2", "test-0-of-2", "test-1-of-2"], "train-0-of-2 of 2 parquet files are"),
        (["data/train-0-of-11", "data/train-10-of-11"], "train-3-of-11 and 6 more of 11 parquet"),
        (["train-0-of-2-0123456789abcdef"], "train-1-of-2 of 2 parquet files are missing"),
        (["a/train-0-of-2", "b/train-1-of-2"], "a: train-1-of-2 of 2 parquet files are missing"),
    ],
)
def test_files_that_are_missing_by_their_numbers_are_named(
    tmp_path: Path, names: list[str], says: str
) -> None:
    paths = [write(tmp_path / f"{name}.parquet") for name in names]
    assert says in error_of(tmp_path)
    with pytest.raises(DatasetError, match=r"are missing\..* rename the files"):
        read_unlabelled(tmp_path)
    assert counts(read_dataset(paths[0])) == {"train": {"0": 1, "1": 1}}


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_count_from_0_or_1(tmp_path: Path, first: int) -> None:
    for number in range(first, first + 2):
        write(tmp_path / f"train-{number:02}-of-02.parquet")
    assert counts(read_dataset(tmp_path)) == {"train": {"0": 2, "1": 2}}


@pytest.mark.parametrize(
    ("labels", "names", "says"),
    [
        ([0, 1], None, "declares no names of classes and has the label 0, and"),
        (["cat", "Dog"], None, "declares no names of classes and has the label Dog, and"),
        ([0, 1], ["dog", "cat"], "declares dog for class 0, and"),
        ([0], ["cat"], "declares no name for class 1, and"),
    ],
)
def test_files_that_declare_other_classes_are_refused(
    tmp_path: Path, labels: list[object], names: list[str] | None, says: str
) -> None:
    first = write(tmp_path / "train-0.parquet", names=["cat", "dog"])
    other = write(tmp_path / "train-1.parquet", labels, names)
    error = error_of(tmp_path)
    assert error.startswith(f"{other} {says} {first} declares ")
    assert error.endswith("Write both with the same names")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["cat", "dog"], "numbers in {0} and texts in {1}"),
        ([True, False], "numbers in {0} and true or false in {1}"),
    ],
)
def test_labels_of_two_types_are_refused(tmp_path: Path, labels: list[object], says: str) -> None:
    paths = write(tmp_path / "train-0.parquet"), write(tmp_path / "train-1.parquet", labels)
    stated = says.format(*paths)
    assert error_of(tmp_path) == f"labels are {stated}. Write all with the same names"


@pytest.mark.parametrize("labels", [["0", "1 "], [1.0, 0.0]])
def test_numbers_of_several_types_are_labels(tmp_path: Path, labels: list[object]) -> None:
    write(tmp_path / "train-0.parquet")
    write(tmp_path / "train-1.parquet", labels)
    assert counts(read_dataset(tmp_path)) == {"train": {"0": 2, "1": 2}}


def test_a_name_of_two_classes_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1, 2], ["crane", "ox", "crane"])
    assert error_of(path).startswith(f"{path} declares crane for two classes. Write it with a name")


def test_labels_in_text_can_be_those_that_another_file_declares(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", names=["cat", "dog"])
    write(tmp_path / "test.parquet", ["dog "])
    assert counts(read_dataset(tmp_path)) == {"train": {"cat": 1, "dog": 1}, "test": {"dog": 1}}


def test_spaces_around_labels_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["cat", "cat ", " dog", "\u00a0dog\n"])
    assert counts(read_dataset(path)) == {"train": {"cat": 2, "dog": 2}}


def test_a_path_with_braces_is_a_path(tmp_path: Path) -> None:
    path = write(tmp_path / "{row}{}" / "{v2}.parquet", ["cat", "dog", ""])
    assert error_of(path) == f"{path}, row 2: label is empty. Give each image a label"
