from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from offramp.data.reader import read_dataset
from tests.offramp.data.trees import counts, encoded, error_of, photos, put, reasons

IMAGE = {"bytes": encoded(), "path": None}


def write(path: Path, labels: list[object], images: list[object] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(pa.table({"image": images or [IMAGE] * len(labels), "label": labels}), path)
    return path


def declared(path: Path, labels: list[int], names: list[str]) -> Path:
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"image": [IMAGE] * len(labels), "label": labels})
    write_table(table.replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"),
        ("data/train", "data/val", "data/test"),
        ("default/Train/0000", "default/dev/0000", "default/test/0000"),
    ],
)
def test_parquet_files_are_split_by_exact_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names, 1):
        write(tmp_path / "[a]" / f"{name}.parquet", ["cat"] * number)
    put(tmp_path, "README.md", content=b"text")
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"cat": 1}, "validation": {"cat": 2}, "test": {"cat": 3}}
    assert reasons(found) == {"README.md": "is beside parquet files, which are the data set"}


@pytest.mark.parametrize("name", ["my-train", "train_0", "trainset", "bullet train"])
def test_a_word_in_a_name_is_no_split(tmp_path: Path, name: str) -> None:
    write(tmp_path / "test.parquet", ["cat"])
    write(tmp_path / f"{name}.parquet", ["cat"])
    assert f"{name}.parquet is of no known split" in error_of(tmp_path)


def test_one_file_is_the_training_split(tmp_path: Path) -> None:
    path = write(tmp_path / "test.parquet", ["cat", "dog"])
    assert counts(read_dataset(path)) == {"train": {"cat": 1, "dog": 1}}
    assert counts(read_dataset(tmp_path)) == {"test": {"cat": 1, "dog": 1}}
    path.rename(tmp_path / "images of mine")
    assert counts(read_dataset(tmp_path)) == {"train": {"cat": 1, "dog": 1}}


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (None, "row 1: image is null. Give each row an image"),
        ({"bytes": None, "path": None}, "row 1: image is null"),
        ({"bytes": b"", "path": None}, "row 1: image is empty"),
        ({"bytes": None, "path": "gone.png"}, "row 1: image: there is no file "),
    ],
)
def test_an_image_cell_that_cannot_be_used_names_its_row(
    tmp_path: Path, cell: object, says: str
) -> None:
    path = write(tmp_path / "a.parquet", ["cat", "dog"], [IMAGE, cell])
    assert f"{path}, {says}" in error_of(path)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["cat", None], "row 1: label is null. Give each image a label"),
        ([0.0, float("nan")], "row 1: label is null"),
        (["cat", ""], "row 1: label is empty"),
        (["cat", " "], "row 1: label is empty"),
        ([["cat"], ["dog"]], "row 0: label is a list. Give each image one label"),
        ([1.0, 0.5], "row 1: label is 0.5, which is neither a text nor a whole number"),
    ],
)
def test_a_label_cell_that_cannot_be_used_names_its_row(
    tmp_path: Path, labels: list[object], says: str
) -> None:
    path = write(tmp_path / "a.parquet", labels)
    assert f"{path}, {says}" in error_of(path)


def test_a_list_of_images_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["cat"], [[encoded()]])
    assert "row 0: image is a list. Give each row one image" in error_of(path)


def test_images_can_be_paths_beside_the_file(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png")
    path = write(tmp_path / "a.parquet", ["cat"], ["in/a.png"])
    (only,) = read_dataset(path).parts["train"].images
    assert only.image == tmp_path / "in" / "a.png"


def test_declared_classes_keep_their_order_and_those_without_images_are_named(
    tmp_path: Path,
) -> None:
    found = read_dataset(declared(tmp_path / "a.parquet", [2, 0], ["eel", "fox", "cat"]))
    assert found.classes == ("eel", "cat")
    assert reasons(found) == {"fox": "is a class without images"}


@pytest.mark.parametrize("value", [-1, 3])
def test_a_class_number_out_of_range_names_its_row(tmp_path: Path, value: int) -> None:
    path = declared(tmp_path / "a.parquet", [0, value], ["eel", "fox", "cat"])
    assert f"{path}, row 1: label is {value}, and the classes are 0 to 2" in error_of(path)


def test_a_test_split_without_labels_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", ["cat"])
    declared(tmp_path / "test.parquet", [-1, -1], ["cat"])
    found = read_dataset(tmp_path)
    assert set(found.parts) == {"train"}
    assert reasons(found) == {"test": "has no labels: they are withheld"}


def test_labels_withheld_in_one_file_of_the_test_split_name_it(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", ["cat"])
    declared(tmp_path / "test-a.parquet", [-1, -1], ["cat"])
    declared(tmp_path / "test-b.parquet", [0, 0], ["cat"])
    assert reasons(read_dataset(tmp_path)) == {
        "test": f"has no labels in {tmp_path}/test-a.parquet: they are withheld. Remove these rows "
        "to use the others"
    }


def test_whole_numbers_are_labels_in_order_of_value(tmp_path: Path) -> None:
    found = read_dataset(write(tmp_path / "a.parquet", [10.0, 9.0, 9.0]))
    assert found.classes == ("9", "10")
    assert found.parts["train"].targets.tolist() == [1, 0, 0]


def test_two_label_columns_are_not_guessed_between(tmp_path: Path) -> None:
    table = pa.table({"image": [IMAGE], "class": ["a"], "target": ["b"]})
    write_table(table, tmp_path / "a.parquet")
    assert "has the label columns class, target. Keep one" in error_of(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["image", "label", "label"], "has the columns label and label. Keep one of them"),
        (["image", "label", "Label"], "has the columns label and Label. Keep one of them"),
        (["image", "image", "label"], "has the columns image and image. Keep one of them"),
        (["split", "Split", "image", "label"], "has the columns split and Split. Keep one of them"),
    ],
)
def test_two_columns_of_one_name_are_not_guessed_between(
    tmp_path: Path, names: list[str], says: str
) -> None:
    cells = {"image": [IMAGE], "split": ["train"]}
    columns = [pa.array(cells.get(name.lower(), ["cat"])) for name in names]
    write_table(pa.table(columns, names=names), tmp_path / "a.parquet")
    assert error_of(tmp_path / "a.parquet") == f"{tmp_path}/a.parquet {says}"


@pytest.mark.parametrize(
    ("folders", "name"), [(["cat", "dog"], "train.parquet"), (["assets"], "data/train.parquet")]
)
def test_parquet_files_beside_folders_of_images_are_two_readings(
    tmp_path: Path, folders: list[str], name: str
) -> None:
    photos(tmp_path, folders)
    write(tmp_path / name, ["cat"])
    error = error_of(tmp_path)
    assert error.startswith(
        f"{tmp_path} can be read in two ways: as the parquet files {name}, or as folders with the "
        f"classes or splits {', '.join(folders)}. If the parquet files are the data set, move "
    )
    assert counts(read_dataset(tmp_path / name)) == {"train": {"cat": 1}}


def test_parquet_files_without_images_or_labels_beside_class_folders_are_left_out(
    tmp_path: Path,
) -> None:
    photos(tmp_path, ["cat", "dog"])
    write_table(pa.table({"file": ["cat/0.png"], "label": ["cat"]}), tmp_path / "train.parquet")
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"cat": 3, "dog": 3}}
    assert set(reasons(found)) == {"train.parquet"}


def test_images_beside_parquet_files_are_left_out_unless_a_cell_names_them(tmp_path: Path) -> None:
    put(tmp_path, "logo.png", "a.png")
    write(tmp_path / "train.parquet", ["cat", "dog"], ["a.png", "in/b.png"])
    assert "there is no file" in error_of(tmp_path)
    write(tmp_path / "train.parquet", ["cat"], ["a.png"])
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"cat": 1}}
    assert reasons(found) == {"logo.png": "is beside parquet files, which are the data set"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04rest", "is a zip archive. Unpack it, and give the folder"),
        (b"\x1f\x8b\x08", "is a gzip archive. Unpack it"),
        (encoded(), "is one image. Give a folder of class folders"),
        (b"", "is empty"),
        (b"\x00\x01\x02", "is not a table (CSV, JSON Lines) or a parquet file"),
        (b"PAR1rest", "cannot be read as a parquet file"),
    ],
)
def test_a_file_that_is_no_data_set_says_what_it_is(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = put(tmp_path, "data.bin", content=content) / "data.bin"
    assert says in error_of(path)


@pytest.mark.parametrize("name", ["no/such", "a\0b"])
def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path, name: str) -> None:
    assert error_of(tmp_path / name).startswith("there is no file or folder ")
