"""Graphs that a process of its own makes for all workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.models.catalog import Entry
from serving.models.folder import ModelFolder
from serving.processes.changes.graph_maker import GraphMaker, graph_maker_of
from serving.runtime.ready_graphs import read_graphs
from serving.settings import Settings
from tests.serving.models.folders import add_version, damage


def entry_of(folder: ModelFolder, version: str) -> Entry:
    return Entry("cats", version, folder.digest("cats", version), 1)


@pytest.fixture
def folder(bundle: Path, tmp_path: Path) -> ModelFolder:
    for version in ("1", "2"):
        add_version(tmp_path, bundle, "cats", version)
    return ModelFolder(tmp_path)


@pytest.fixture
def maker(folder: ModelFolder) -> Iterator[GraphMaker]:
    made = graph_maker_of(Settings(models=folder.path), folder)
    assert made is not None
    yield made
    made.drop()


def test_the_graphs_can_be_read_until_they_are_dropped(
    maker: GraphMaker, folder: ModelFolder
) -> None:
    maker.begin(entry_of(folder, "1"), ())
    path, error = maker.result()
    assert (error, maker.news) == (None, None)
    assert path is not None
    graphs = read_graphs(path)
    maker.drop()
    assert not path.exists()
    assert graphs.open().whole_network is not None


def test_nothing_is_made_if_a_loaded_version_has_the_graphs(
    maker: GraphMaker, folder: ModelFolder
) -> None:
    loaded = [entry_of(folder, "1"), Entry("cats", "9", "is gone", 2)]
    maker.begin(entry_of(folder, "2"), loaded)
    assert maker.result() == (None, None)


def test_a_damaged_version_is_refused_with_its_reason(
    maker: GraphMaker, folder: ModelFolder
) -> None:
    damage(folder.path / "cats" / "1")
    maker.begin(entry_of(folder, "1"), ())
    path, error = maker.result()
    assert path is None
    assert error is not None
    assert "stage4.onnx" in error
    maker.begin(Entry("cats", "2", "another manifest", 1), ())
    assert "changed while it was being loaded" in str(maker.result()[1])


@contextmanager
def making(signals: Collection[signal.Signals]) -> Iterator[GraphMaker]:
    """Return a maker whose process sends itself signals."""

    def end(*_: object) -> bool:
        for number in signals:
            os.kill(os.getpid(), number)
        return False

    maker = GraphMaker(end)
    yield maker
    maker.drop()


def test_a_process_that_is_killed_is_the_reason(folder: ModelFolder) -> None:
    with making([signal.SIGTERM]) as maker:
        maker.begin(entry_of(folder, "1"), ())
        path, error = maker.result()
        assert path is None
        assert error == "the process that loads it was killed by SIGTERM"


def test_signals_to_the_group_are_the_supervisors(folder: ModelFolder) -> None:
    with making([signal.SIGINT, signal.SIGHUP]) as maker:
        maker.begin(entry_of(folder, "1"), ())
        assert maker.result() == (None, None)


@pytest.mark.parametrize("settings", [{"layout": "portable"}, {"provider": "cuda"}])
def test_each_worker_makes_its_own(folder: ModelFolder, settings: dict[str, str]) -> None:
    given = Settings(models=folder.path).model_copy(update=settings)
    assert graph_maker_of(given, folder) is None
