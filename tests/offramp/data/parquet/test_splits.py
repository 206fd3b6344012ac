"""The column `split` of parquet files, which has the rules of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.parquet import write_table

from offramp.data.reader import read_dataset
from offramp.data.split_folders import SPLITS
from tests.offramp.data.trees import counts, encoded, error_of, loaded

NAMES = sorted({*SPLITS, "Train", " TEST "})


def write(path: Path, splits: Sequence[object], column: str = "split") -> Path:
    labels = [f"label {row}" for row in range(len(splits))]
    images = [{"bytes": encoded(), "path": None}] * len(splits)
    write_table(pa.table({"image": images, "label": labels, column: splits}), path)
    return path


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5), min_size=1, max_size=3))
def test_every_row_is_in_the_split_that_it_states(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    expected: dict[str, dict[str, str]] = {}
    for number, splits in enumerate(files):
        path = write(folder / f"{number}.parquet", splits)
        for row, split in enumerate(splits):
            named = expected.setdefault(SPLITS[split.strip().casefold()], {})
            named[f"{path}#{row}"] = f"label {row}"
    found = read_dataset(folder)
    assert loaded(found) == expected
    for split, part in found.parts.items():
        assert [part.images.name(row) for row in range(len(part.images))] == [*expected[split]]


def test_the_name_of_the_column_is_read_in_any_case(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ["train", "dev"], "Split")
    assert counts(read_dataset(path)) == {"train": {"label 0": 1}, "validation": {"label 1": 1}}


@pytest.mark.parametrize("value", ["holdout", "", None])
def test_a_cell_that_states_no_split_names_its_row(tmp_path: Path, value: str | None) -> None:
    path = write(tmp_path / "a.parquet", ["train", value])
    assert f"{path}, row 1: split is {value!r}, and it can be train, training" in error_of(path)


def test_a_column_of_numbers_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1])
    assert f"{path}, row 0: split is 0, and it can be train, training" in error_of(path)


def test_a_row_that_contradicts_the_name_of_its_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "train-0.parquet", ["train", "val"])
    assert counts(read_dataset(path)) == {"train": {"label 0": 1}, "validation": {"label 1": 1}}
    assert (
        f"{path}, row 1: split is 'val', and the path of the file says train. Rename the file, or "
        "remove the column"
    ) in error_of(tmp_path)


def test_labels_can_be_withheld_in_the_test_rows_only(tmp_path: Path) -> None:
    images = [{"bytes": encoded(), "path": None}] * 3
    table = pa.table({"image": images, "label": [1, 0, -1], "split": ["train", "train", "test"]})
    write_table(table, tmp_path / "a.parquet")
    found = read_dataset(tmp_path / "a.parquet")
    assert counts(found) == {"train": {"0": 1, "1": 1}}
    assert [str(each) for each in found.left_out] == ["test has no labels: they are withheld"]
