"""Images without labels have held-out images drawn at random, and classes by name."""

from pathlib import Path

import pytest

from tests.training.samples import LABELS, PARQUET, TINY
from training.data.reopen import open_for, reopen_dataset, without_damaged
from training.data.unlabelled import class_names
from training.errors import DataError
from training.recipes import Recipe

RECIPE = TINY.model_copy(update={"pseudo_labels": True, "held_out": None})


def test_a_tenth_is_held_out_by_the_seed() -> None:
    first, again = (open_for(RECIPE, str(PARQUET), LABELS) for _ in range(2))
    assert (len(first.train), len(first.held_out), first.labels) == (450, 50, LABELS)
    assert not first.labelled
    assert first.summary() is None
    assert [line[:40] for line in first.warnings()] == ["warning: only 50 held-out images: accura"]
    assert first.fingerprint() == again.fingerprint()
    other: Recipe = RECIPE.model_copy(update={"seed": 1})
    assert open_for(other, str(PARQUET), LABELS).fingerprint() != first.fingerprint()
    assert open_for(RECIPE, str(PARQUET), LABELS[::-1]).fingerprint() != first.fingerprint()
    reopened = reopen_dataset(str(PARQUET), RECIPE, (450, 50), labels=LABELS)
    assert reopened.fingerprint() == first.fingerprint()
    whole, errors = without_damaged(first)
    assert (len(whole.train), errors) == (450, [])


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="held_out: 500 of 500 images leaves no training images"):
        open_for(RECIPE.model_copy(update={"held_out": 500}), str(PARQUET), LABELS)
    with pytest.raises(DataError, match="data: there is no file or folder nowhere"):
        open_for(RECIPE, "nowhere", LABELS)


def test_a_damaged_parquet_file_is_named_before_training(tmp_path: Path) -> None:
    whole = PARQUET.read_bytes()
    for name, content in (("a", whole), ("b", whole[:4] + bytes(9999) + whole[10003:])):
        (tmp_path / f"{name}.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"data: .*b\.parquet.* cannot be read as a parquet file"):
        open_for(RECIPE, str(tmp_path), LABELS)


def test_names_of_classes_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("ant\n bee \n\n", encoding="utf-8")
    assert class_names(path, 2) == ("ant", "bee")
    path.write_bytes(b"\xef\xbb\xbfant\r\nbee\r\n")  # as editors on Windows write it
    assert class_names(path, 2) == ("ant", "bee")
    assert class_names(None, 3) == ("0", "1", "2")
    with pytest.raises(DataError, match="has 2 names, and the weights are for 3 classes"):
        class_names(path, 3)
    path.write_text("ant\nant\n", encoding="utf-8")
    with pytest.raises(DataError, match="has the name 'ant' twice"):
        class_names(path, 2)
    with pytest.raises(DataError, match=r"--class-names: .* cannot be read"):
        class_names(tmp_path / "missing", 2)
