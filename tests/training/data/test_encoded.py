"""Parquet files that `datasets` would read from another place, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.offramp.data.trees import encoded, put
from tests.training.samples import PARQUET
from training.data.datasets import open_dataset
from training.errors import DataError


@pytest.mark.parametrize(
    ("folder", "says"),
    [("$HOME", "has a variable such as $HOME in its path"), ("a::b", "has :: in its path")],
)
def test_a_path_that_means_another_place_is_refused(
    tmp_path: Path, folder: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    path = tmp_path / folder / "train.parquet"
    path.parent.mkdir()
    shutil.copy(PARQUET, path)
    with pytest.raises(DataError) as raised:
        open_dataset(str(path.parent), 32, 100, 0)
    assert str(raised.value) == (
        f"data: {path} {says}, which the library datasets reads as another place. Rename the "
        "folder or the file"
    )


@pytest.mark.parametrize("folder", ["$", "$NO_SUCH_NAME", "a:b", "~x", "{v2}", "http:", "50%20"])
def test_other_signs_in_a_path_are_a_path(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    shutil.copy(PARQUET, tmp_path / folder / "train.parquet")
    assert len(open_dataset(str(tmp_path / folder), 32, 100, 0).train) == 400


def test_a_dictionary_encoded_image_column_has_a_remedy(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", "b.png", "c.png")
    images = pa.array([f"in/{name}.png" for name in "abc"]).dictionary_encode()
    table = pa.table({"image": images, "label": ["cat", "dog", "cat"]})
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"train\.parquet: the image column image is dictionary-enco"
    ):
        open_dataset(str(tmp_path / "train.parquet"), 32, 1, 0)


def test_files_without_rows_are_read(tmp_path: Path) -> None:
    table = parquet.read_table(PARQUET)
    parquet.write_table(table, tmp_path / "train-1.parquet")
    for name in ("train-0", "train-2", "validation", "test"):
        parquet.write_table(table.slice(0, 0), tmp_path / f"{name}.parquet")
    dataset = open_dataset(str(tmp_path), 32, 100, 0)
    assert [len(dataset.train), len(dataset.held_out), dataset.test] == [400, 100, None]
    assert dataset.found
    assert [str(each) for each in dataset.found.left_out] == [
        "test has no rows",
        "validation has no rows",
    ]


def test_another_file_with_the_same_path_and_time_is_read_anew(tmp_path: Path) -> None:
    path, table = tmp_path / "train.parquet", parquet.read_table(PARQUET)
    seen = []
    for part in (table.slice(0, 100), table.slice(100, 100)):
        parquet.write_table(part, path)
        os.utime(path, (1e9, 1e9))  # as programs that unpack archives do
        seen += [{file.encoded for file in open_dataset(str(path), 32, 10, 0).train.files()}]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.binary(len(encoded()))])
def test_images_in_views_and_in_cells_of_one_size_are_read(
    tmp_path: Path, kind: pa.DataType
) -> None:
    table = pa.table({"image": pa.array([encoded()] * 3, kind), "label": ["cat", "dog", "cat"]})
    parquet.write_table(table, tmp_path / "train.parquet")
    opened = open_dataset(str(tmp_path / "train.parquet"), 32, 1, 0)
    assert [file.encoded for file in opened.train.files()] == [encoded()] * 2


def test_paths_in_a_view_are_read(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", "b.png", "c.png")
    paths = pa.array([f"in/{name}.png" for name in "abc"], pa.string_view())
    table = pa.table({"image": paths, "label": ["cat", "dog", "cat"]})
    parquet.write_table(table, tmp_path / "train.parquet")
    opened = open_dataset(str(tmp_path / "train.parquet"), 32, 1, 0)
    assert [file.encoded for file in opened.train.files()] == [encoded()] * 2


def test_files_with_images_of_different_types_are_refused_with_both(tmp_path: Path) -> None:
    for name, kind in (("a", pa.binary()), ("b", pa.binary_view())):
        table = pa.table({"image": pa.array([encoded()] * 2, kind), "label": ["cat", "dog"]})
        parquet.write_table(table, tmp_path / f"train-{name}.parquet")
    with pytest.raises(DataError) as raised:
        open_dataset(str(tmp_path), 32, 1, 0)
    assert str(raised.value) == (
        f"data: the image column image is binary in {tmp_path}/train-a.parquet and binary_view in "
        f"{tmp_path}/train-b.parquet. Write all files with one type"
    )


def test_a_damaged_image_is_named_by_its_file_and_row(tmp_path: Path) -> None:
    image = encoded()
    for name, images in (("a", [image] * 4), ("b", [image, image, image[:60], image])):
        cells = [{"bytes": each, "path": "same.png"} for each in images]
        table = {"image": cells, "label": ["a", "b"] * 2, "split": ["val", *["train"] * 3]}
        parquet.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"b\.parquet#2 cannot be decoded"):
        open_dataset(str(tmp_path), 32, 2, 0).decoded()
