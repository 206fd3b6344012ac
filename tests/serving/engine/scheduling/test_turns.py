from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from threading import Event, Thread

import pytest

from serving.engine.scheduling.turn_order import BUSY, PAUSE
from serving.engine.scheduling.turns import Turns

SHORT = 0.05  # seconds, in which a batch that can start has started
LONG = 20.0
SECONDS = 0.01  # of a request alone


class Batch:
    """A thread with a batch of a model, which runs until it is ended."""

    def __init__(self, turn: AbstractContextManager[None]) -> None:
        self.started, self._end = Event(), Event()
        self._turn = turn
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._turn:
            self.started.set()
            self._end.wait(LONG)

    def runs(self) -> bool:
        return self.started.wait(LONG)

    def waits(self) -> bool:
        return not self.started.wait(SHORT)

    def stop(self) -> None:
        self._end.set()

    def end(self) -> None:
        self.stop()
        self._thread.join(LONG)


class Models:
    """Starts batches, and ends those that are left."""

    def __init__(self, cores: int) -> None:
        turns = Turns(cores)
        self._turns = {name: turns.of(name, SECONDS) for name in "abc"}
        self._batches: list[Batch] = []

    def start(self, model: str) -> Batch:
        self._batches.append(Batch(self._turns[model].turn()))
        return self._batches[-1]

    def close(self) -> None:
        for batch in self._batches:
            batch.stop()  # one that still waits ends after those that have its turn
        for batch in self._batches:
            batch.end()


@pytest.fixture
def models() -> Iterator[Models]:
    """Return the models of a process with two cores."""
    models = Models(2)
    yield models
    models.close()


def test_a_model_alone_has_all_cores_and_not_more(models: Models) -> None:
    first, second = models.start("a"), models.start("a")
    assert first.runs()
    assert second.runs()
    third = models.start("a")
    assert third.waits()
    first.end()
    assert third.runs()


def test_a_light_model_starts_beside_batches_that_do_not_end(models: Models) -> None:
    flood = [models.start("a") for _ in range(4)]
    assert flood[0].runs()
    other = models.start("b")
    assert other.runs()


def test_a_flood_does_not_start_beside_as_many_batches_as_cores(models: Models) -> None:
    first, second = models.start("a"), models.start("a")
    assert first.runs()
    assert second.runs()
    other, third = models.start("b"), models.start("a")
    assert other.runs()
    first.end()
    assert third.waits()
    other.end()
    assert third.runs()


def test_a_batch_that_raises_gives_its_turn_back() -> None:
    turns = Turns(1).of("a", SECONDS)
    with pytest.raises(ValueError, match="stage"), turns.turn():
        raise ValueError("stage")
    with turns.turn():
        pass


def test_a_batch_is_short_while_another_model_computes() -> None:
    turns = Turns(2)
    one, other = turns.of("a", SECONDS), turns.of("b", 2 * SECONDS)
    assert one.longest() == math.inf
    with other.turn():
        assert one.longest() == 2 * SECONDS


def test_a_version_that_ended_makes_no_turn_of_the_next_one_short() -> None:
    turns = Turns(2)
    old = turns.of("a", SECONDS)
    with old.turn():
        new = turns.of("a", 2 * SECONDS)
        assert new.longest() == math.inf
    assert new.longest() == math.inf


def test_a_model_pauses_once_its_threads_found_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("serving.engine.scheduling.turns.perf_counter", lambda: now)
    monkeypatch.setattr("serving.engine.scheduling.turns.thread_time", lambda: now)
    turns = Turns(2)
    flood, other = turns.of("a", SECONDS), turns.of("b", SECONDS)
    with other.turn():
        now += BUSY
    while now < 3 * BUSY:
        with flood.turn():
            now += SECONDS
    now += 2 * PAUSE
    assert other.longest() == math.inf
    flood.rest()
    flood.rest()
    now += PAUSE / 2
    assert other.longest() == math.inf
    now += PAUSE
    with other.turn():
        now += 3 * BUSY  # more than the flood used
    assert other.longest() == SECONDS
