"""Changes in several workers, without processes: messages go in and come out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from serving.models.catalog import Entry
from serving.models.folder import ModelFolder
from serving.models.messages import (
    Abort,
    Ask,
    Commit,
    Committed,
    Making,
    Prepare,
    Prepared,
    Reply,
    Restart,
    ToWorker,
)
from serving.models.planner import Planner, Wish
from serving.processes.changes.workers import WorkerChanges

TWO = Wish("cats", "2")


@pytest.fixture
def changes(tmp_path: Path) -> WorkerChanges:
    """Two workers that serve version 1."""
    for version in ("1", "2"):
        (tmp_path / "cats" / version).mkdir(parents=True)
        (tmp_path / "cats" / version / "manifest.json").write_text(version)
    planner = Planner(ModelFolder(tmp_path), keep_previous=False)
    start = planner.propose(planner.start(), Wish("cats", "1"))
    made = WorkerChanges(planner, start)
    for worker in (0, 1):
        made.ready(worker, start.number)
    assert sent(made) == []
    return made


def sent(changes: WorkerChanges) -> list[tuple[int, type[ToWorker]]]:
    return [(worker, type(message)) for worker, message in changes.take()]


def serving(changes: WorkerChanges) -> str:
    return changes.catalog.models["cats"][0].version


def prepared(changes: WorkerChanges, worker: int, error: str | None = None) -> None:
    """Let a worker answer the `Prepare` that it was sent last."""
    changes.receive(worker, Prepared(changes.catalog.number + 1, error))


def committed(changes: WorkerChanges, *workers: int) -> None:
    for worker in workers:
        changes.receive(worker, Committed(changes.catalog.number))


def test_all_workers_load_before_one_serves(changes: WorkerChanges) -> None:
    changes.receive(1, Ask(7, TWO))
    assert sent(changes) == [(0, Prepare), (1, Prepare)]
    prepared(changes, 0)
    assert (sent(changes), serving(changes)) == ([], "1")
    prepared(changes, 1)
    assert list(changes.take()) == [(0, Commit(changes.catalog)), (1, Commit(changes.catalog))]
    assert serving(changes) == "2"
    committed(changes, 1)
    assert sent(changes) == []
    committed(changes, 0)
    assert list(changes.take()) == [(1, Reply(7))]


def test_if_one_cannot_load_none_serves_it(changes: WorkerChanges) -> None:
    changes.receive(0, Ask(1, TWO))
    sent(changes)
    prepared(changes, 0, "no memory")
    assert sent(changes) == []  # the other may still be loading
    prepared(changes, 1)
    messages = list(changes.take())
    assert [(worker, type(each)) for worker, each in messages] == [
        (0, Abort),
        (1, Abort),
        (0, Reply),
    ]
    assert isinstance(reply := messages[-1][1], Reply)
    assert "no memory" in str(reply.error)
    assert serving(changes) == "1"
    assert "no memory" in changes.catalog.failures["cats", "2"]


def test_a_worker_that_dies_does_not_hold_up_the_others(changes: WorkerChanges) -> None:
    changes.receive(0, Ask(1, TWO))
    sent(changes)
    prepared(changes, 0)
    changes.ended(1)
    assert sent(changes) == [(0, Commit)]
    committed(changes, 0)
    assert sent(changes) == [(0, Reply)]
    assert serving(changes) == "2"


def test_a_worker_that_dies_while_it_commits_does_not_hold_up_the_others(
    changes: WorkerChanges,
) -> None:
    changes.receive(0, Ask(1, TWO))
    prepared(changes, 0)
    prepared(changes, 1)
    committed(changes, 0)
    sent(changes)
    changes.ended(1)
    assert sent(changes) == [(0, Reply)]


def test_the_successor_of_a_worker_gets_no_answer_to_its_calls(changes: WorkerChanges) -> None:
    changes.receive(1, Ask(0, TWO))
    changes.ended(1)
    changes.ready(1, changes.catalog.number)
    changes.receive(1, Ask(0, Wish("dogs")))
    sent(changes)
    prepared(changes, 0)
    committed(changes, 0)
    assert sent(changes) == [(0, Commit), (1, Prepare)]
    changes.receive(1, Prepared(changes.catalog.number))
    replies = [message for _, message in changes.take() if isinstance(message, Reply)]
    assert len(replies) == 1
    assert "no version of 'dogs'" in str(replies[0].error)


def test_a_version_under_which_all_workers_die_is_not_served(changes: WorkerChanges) -> None:
    changes.receive(0, Ask(1, TWO))
    for worker in (0, 1):
        changes.ended(worker)
    assert serving(changes) == "1"
    assert "ended" in changes.catalog.failures["cats", "2"]
    changes.ready(0, changes.catalog.number)
    changes.receive(0, Ask(1, TWO))
    prepared(changes, 0)
    changes.ended(0)  # while it commits
    assert serving(changes) == "2"


def test_a_change_begins_when_a_worker_serves(changes: WorkerChanges) -> None:
    for worker in (0, 1):
        changes.ended(worker)
    changes.reload()
    assert (sent(changes), serving(changes)) == ([], "1")
    changes.ready(0, changes.catalog.number)
    assert sent(changes) == [(0, Prepare)]
    prepared(changes, 0)
    assert serving(changes) == "2"


def test_a_worker_that_started_meanwhile_follows_before_the_next_change(
    changes: WorkerChanges,
) -> None:
    before = changes.catalog.number
    changes.receive(0, Ask(1, TWO))
    changes.ended(1)
    changes.ready(1, before)
    sent(changes)
    prepared(changes, 0)
    committed(changes, 0)
    assert sent(changes) == [(0, Commit), (1, Prepare), (0, Reply)]
    changes.receive(0, Ask(2, Wish("cats", "1")))
    assert sent(changes) == []
    changes.receive(1, Prepared(changes.catalog.number))
    assert sent(changes) == [(1, Commit), (0, Prepare), (1, Prepare)]


def test_a_worker_that_cannot_follow_is_replaced(changes: WorkerChanges) -> None:
    changes.receive(0, Ask(1, TWO))
    changes.ended(1)
    sent(changes)
    prepared(changes, 0)
    committed(changes, 0)
    changes.ready(1, 0)
    sent(changes)
    changes.receive(1, Prepared(changes.catalog.number, "no memory"))
    assert sent(changes) == [(1, Restart)]
    changes.ended(1)
    changes.ready(1, changes.catalog.number)
    assert sent(changes) == []


def test_changes_are_made_one_after_another(changes: WorkerChanges) -> None:
    changes.receive(0, Ask(1, TWO))
    changes.receive(1, Ask(1, Wish("cats", unload=True)))
    assert sent(changes) == [(0, Prepare), (1, Prepare)]
    prepared(changes, 0)
    prepared(changes, 1)
    committed(changes, 0, 1)
    assert sent(changes)[-2:] == [(0, Prepare), (1, Prepare)]
    prepared(changes, 0)
    prepared(changes, 1)
    assert changes.catalog.models == {}


class Maker:
    """Notes what it is to make."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def begin(self, entry: Entry, loaded: Collection[Entry]) -> None:
        assert entry not in loaded
        if entry.name == "dogs":
            raise OSError("no memory")
        self.made.append(entry.version)

    def drop(self) -> None:
        self.made.append("dropped")


@pytest.fixture
def making(changes: WorkerChanges, tmp_path: Path) -> tuple[WorkerChanges, Maker]:
    maker = Maker()
    made = WorkerChanges(
        Planner(ModelFolder(tmp_path), keep_previous=False), changes.catalog, maker
    )
    for worker in (0, 1):
        made.ready(worker, changes.catalog.number)
    return made, maker


def test_workers_load_the_graphs_that_were_made(making: tuple[WorkerChanges, Maker]) -> None:
    changes, maker = making
    changes.receive(0, Ask(1, TWO))
    changes.ended(1)
    assert (sent(changes), maker.made) == ([(0, Making), (1, Making)], ["2"])
    changes.ready(1, changes.catalog.number)  # its successor loads them too
    changes.made(Path("graphs"), None)
    messages = [message for _, message in changes.take() if isinstance(message, Prepare)]
    assert [each.graphs for each in messages] == [Path("graphs")] * 2
    prepared(changes, 0)
    prepared(changes, 1)
    committed(changes, 0, 1)
    assert (serving(changes), maker.made) == ("2", ["2", "dropped"])
    changes.receive(0, Ask(2, Wish("cats", unload=True)))
    assert sent(changes)[-2:] == [(0, Prepare), (1, Prepare)]  # there is nothing to make


def test_a_version_whose_graphs_cannot_be_made_reaches_no_worker(
    making: tuple[WorkerChanges, Maker],
) -> None:
    changes, maker = making
    changes.receive(0, Ask(1, TWO))
    sent(changes)
    changes.made(None, "damaged")
    assert sent(changes) == [(0, Abort), (1, Abort), (0, Reply)]
    assert "damaged" in changes.catalog.failures["cats", "2"]
    assert maker.made == ["2", "dropped"]


def test_workers_make_the_graphs_if_no_process_can(
    making: tuple[WorkerChanges, Maker], tmp_path: Path
) -> None:
    changes, _ = making
    (tmp_path / "dogs" / "1").mkdir(parents=True)
    (tmp_path / "dogs" / "1" / "manifest.json").write_text("1")
    changes.receive(0, Ask(1, Wish("dogs")))
    messages = [message for _, message in changes.take()]
    assert [type(each) for each in messages] == [Prepare] * 2
    assert isinstance(messages[0], Prepare)
    assert messages[0].graphs is None


def test_what_is_not_there_is_refused_without_the_workers(changes: WorkerChanges) -> None:
    changes.receive(0, Ask(3, Wish("dogs")))
    replies = [message for _, message in changes.take() if isinstance(message, Reply)]
    assert [each.number for each in replies] == [3]
    assert "no version of 'dogs'" in str(replies[0].error)


def test_a_reload_loads_what_changed_and_goes_on_after_a_failure(
    changes: WorkerChanges, tmp_path: Path
) -> None:
    for name in ("birds", "dogs"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "manifest.json").write_text(name)
    changes.reload()
    for error in (None, "damaged", None):  # birds, cats, dogs
        sent(changes)
        prepared(changes, 0, error)
        prepared(changes, 1)
        committed(changes, 0, 1)
    assert set(changes.catalog.models) == {"birds", "cats", "dogs"}
    assert serving(changes) == "1"
    changes.reload()
    assert sent(changes)[-2:] == [(0, Prepare), (1, Prepare)]
