"""Splits of a data set, and their encoded files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.offramp.data.trees import photos
from tests.training.samples import LABELS, PARQUET, source_with_test
from training.data.datasets import load_dataset
from training.data.splits import load_files, load_split, load_test
from training.errors import DataError


def test_labels_are_numbered_in_the_given_order() -> None:
    turned = load_files(str(PARQUET), "train", tuple(reversed(LABELS)))
    for file, other in zip(load_files(str(PARQUET), "train", LABELS), turned, strict=True):
        assert other.target == 9 - file.target
    with pytest.raises(DataError, match="is not in the training set"):
        load_files(str(PARQUET), "train", LABELS[1:])


def test_encoded_files_are_read_unchanged() -> None:
    files = load_files(str(PARQUET), "train", LABELS)
    assert len(files) == 500
    assert files[0].encoded.startswith(b"\xff\xd8"), "a JPEG"
    with pytest.raises(DataError, match="no split 'test', only train"):
        load_files(str(PARQUET), "test", LABELS)


def test_the_test_split_is_opened_only_with_labels(tmp_path: Path) -> None:
    labels = load_dataset(str(PARQUET), 32, 100, 0).labels
    assert load_test(str(PARQUET), 32, labels) is None
    (tmp_path / "labelled").mkdir()
    (tmp_path / "withheld").mkdir()
    labelled = load_test(source_with_test(tmp_path / "labelled", 40), 32, labels)
    assert labelled is not None
    assert len(labelled) == 40
    assert load_test(source_with_test(tmp_path / "withheld", 40, label=-1), 32, labels) is None


def test_a_label_in_another_unicode_form_is_named_as_such(tmp_path: Path) -> None:
    photos(tmp_path, ["cafe\u0301", "fox"])
    with pytest.raises(DataError, match=r"training set\. 'cafe\\u0301' and 'caf\\xe9' differ only"):
        load_split(str(tmp_path), "train", 32, ("caf\xe9", "fox"))
