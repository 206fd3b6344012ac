"""The tables of a cross-validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.training.photos.folds import fold_of, main
from offramp.data.reader import read_dataset
from tests.offramp.data.trees import photos


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 7))
def test_folds_and_classes_in_them_differ_by_one_image(targets: list[int], folds: int) -> None:
    drawn = fold_of(np.array(targets), folds, 0)
    for own in (drawn, *(drawn[np.array(targets) == target] for target in set(targets))):
        sizes = np.bincount(own, minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_each_image_is_tested_once(tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", ["a", "b"], 3)
    assert main(["--data", str(data), "--out", str(tmp_path), "--folds", "3"]) == 0
    tested: list[str] = []
    for fold in range(3):
        found = read_dataset(tmp_path / f"fold{fold}.csv")
        assert found.classes == ("a", "b")
        own = {split: {each.name for each in part.images} for split, part in found.parts.items()}
        assert len(own["train"]) == 4
        assert not own["train"] & own["test"]
        assert sorted(found.part("test").targets) == [0, 1]
        tested += own["test"]
    assert len(set(tested)) == len(tested) == 6


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    assert "there is no file or folder" in capsys.readouterr().err
