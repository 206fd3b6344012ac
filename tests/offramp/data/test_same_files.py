"""A file under two names has one label and one split, in folders and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

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
