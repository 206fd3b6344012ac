from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

from serving.observe.counters import CELLS_AT_ONCE, Counters

BOUNDS = (0.25, 0.5, 1.0)
AMOUNTS = st.lists(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5]), max_size=20)


def text(*collectors: Collector) -> list[str]:
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def value(counters: Counters, line: str) -> float:
    (found,) = [float(each[len(line) :]) for each in text(counters) if each.startswith(line)]
    return found


@given(AMOUNTS, AMOUNTS)
def test_the_text_equals_that_of_prometheus_client(first: list[float], second: list[float]) -> None:
    counters = Counters()
    flops = Counter("flops", "Spent.", ["budget"], registry=None)
    seconds = Histogram("seconds", "Of a thing.", ["budget", "part"], buckets=BOUNDS, registry=None)
    for budget, amounts in (("low", first), ("full", second)):
        ours = counters.counter("flops", "Spent.", budget=budget)
        observations = counters.histogram("seconds", "Of a thing.", BOUNDS, budget=budget, part=1)
        counter, histogram = flops.labels(budget), seconds.labels(budget, 1)
        for amount in amounts:
            ours.add(4 * amount)
            counter.inc(4 * amount)
            observations.add(amount)
            histogram.observe(amount)
    assert text(counters) == text(flops, seconds)


@pytest.mark.parametrize("reader", [0, 1])
def test_counts_of_all_workers_are_summed(tmp_path: Path, reader: int) -> None:
    workers = [Counters(tmp_path, number) for number in (0, 1)]
    for amount, each in enumerate(workers, 1):
        each.counter("flops", "Spent.", budget="low").add(amount)
        each.histogram("seconds", "Of a thing.", BOUNDS).add(0.5)
    assert value(workers[reader], 'flops_total{budget="low"}') == 3
    assert value(workers[reader], 'seconds_bucket{le="0.5"}') == 2
    assert value(workers[reader], "seconds_count") == 2


def test_the_next_worker_of_a_number_continues_its_counts(tmp_path: Path) -> None:
    for amount in (3, 4):
        counters = Counters(tmp_path, 1)
        counters.counter("flops", "Spent.").add(amount)
    assert value(counters, "flops_total") == 7


def test_reserved_counters_need_no_further_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError("no room")

    def declare(counters: Counters) -> None:
        for part in range(2 * CELLS_AT_ONCE):
            counters.counter("flops", "Spent.", part=part).add()

    counters = Counters(tmp_path, 0)
    with monkeypatch.context() as patch:
        patch.setattr("serving.observe.counters.reserve_room", no_room)
        for _ in range(2):  # what failed is tried again
            with pytest.raises(OSError, match="no room"):
                counters.reserve(declare)
    assert text(counters) == []
    counters.reserve(declare)
    monkeypatch.setattr("serving.observe.counters.reserve_room", no_room)
    declare(counters)
    assert value(counters, 'flops_total{part="7"}') == 1


def test_a_new_file_counts_nothing(tmp_path: Path) -> None:
    counters = Counters(tmp_path, 0)
    counters.counter("flops", "Spent.").add(3)
    (tmp_path / "1.counters").touch()
    assert value(counters, "flops_total") == 3
