"""A file under two names has one label and one split, in folders and tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from offramp.data.reader import read_dataset
from tests.offramp.data.trees import counts, error_of, put, reasons


@pytest.mark.parametrize("hard", [True, False])
def test_a_second_name_of_a_file_in_its_class_is_left_out(tmp_path: Path, hard: bool) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png")
    link(tmp_path / "cat" / "2020" / "1.png", tmp_path / "cat" / "0.png", hard=hard)
    found = read_dataset(tmp_path)
    assert counts(found) == {"train": {"cat": 1, "dog": 1}}
    assert reasons(found) == {"cat/2020/1.png": "is a second name of a file in its class"}


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [("cat/0.png", "dog/x.png"), ("train/cat/0.png", "test/cat/x.png")],
)
def test_a_file_with_two_labels_or_in_two_splits_is_refused(
    tmp_path: Path, first: str, second: str, hard: bool
) -> None:
    put(tmp_path, first, "train/dog/1.png" if "train" in first else "dog/1.png")
    link(tmp_path / second, tmp_path / first, hard=hard)
    error = error_of(tmp_path)
    assert f"{tmp_path / first}" in error
    assert f"{tmp_path / second}" in error
    assert error.endswith("which is the same file. Remove one of them")


def link(path: Path, target: Path, *, hard: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.hardlink_to if hard else path.symlink_to)(target)


def test_a_path_in_parquet_files_is_used_once(tmp_path: Path) -> None:
    put(tmp_path, "in/a.png", "in/b.png")
    images = ["in/a.png", "in/../in/a.png", "in/b.png"]
    path = tmp_path / "a.parquet"
    write_table(pa.table({"image": images, "label": ["cat", "cat", "dog"]}), path)
    found = read_dataset(path)
    assert [each.name for each in found.parts["train"].images] == [f"{path}#0", f"{path}#2"]
    assert reasons(found) == {f"{path}#1": "is listed twice"}
    write_table(pa.table({"image": images, "label": ["cat", "dog", "dog"]}), path)
    error = error_of(path)
    assert f"{path}, row 1: {tmp_path}/in/../in/a.png is dog in train, and cat in train" in error
    assert f"in {path}, row 0, which is the same file. Remove one of them" in error
