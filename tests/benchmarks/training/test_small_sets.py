from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training.small_sets import SmallSet, check_read, run_commands, small_sets
from tests.exporter.conftest import one_registry

__all__ = ["one_registry"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[SmallSet]:
    return list(small_sets(tmp_path_factory.mktemp("sets")))


def test_classes_and_counts_of_every_small_set_are_read(sets: list[SmallSet]) -> None:
    assert [each.name for each in sets] == ["5 folders", "nested", "Train/Valid/Test", "CSV"]
    for each in sets:
        check_read(each)


@pytest.mark.timeout(600)
def test_the_three_commands_run_on_300_photos(
    sets: list[SmallSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ("exits=2", "step=1", "channels=4", "growth=4", "bottleneck=false")
    smaller = ("--epochs=1", *(f"--shape.{field}" for field in shape))
    run_commands(sets[0], tmp_path, smaller)
    shown = capsys.readouterr().out
    assert "5 classes, 300 images" in shown
    assert "  all         270        30" in shown
    assert "270 training and 30 held-out images" in shown
