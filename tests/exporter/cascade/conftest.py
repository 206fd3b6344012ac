from __future__ import annotations

from pathlib import Path

import pytest

from tests.exporter.cascade.cascades import LARGE, NORMAL, SMALL, make, write_two_exits
from tests.exporter.cascade.classifiers import write_pictures


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("photos") / "held-out", 30, 32)


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A classifier of 16 pixels, a bundle of 24 with two exits, and a classifier of 32."""
    folder = tmp_path_factory.mktemp("networks")
    small, large = SMALL.write(folder / "small.onnx"), LARGE.write(folder / "large.onnx")
    return [small, write_two_exits(folder / "two"), large]


@pytest.fixture(scope="session")
def cascade(photos: Path, networks: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three as one bundle of four stages."""
    folder = tmp_path_factory.mktemp("cascades") / "cascade"
    return make(folder, photos, networks, *NORMAL, "--promises", "null")
