import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.observe.counters import Counters

BOUNDS = (0.25, 0.5, 1.0)
AMOUNTS = st.lists(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5]), max_size=20)


def text(*collectors):
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def value(tallies, line):
    (found,) = [float(each[len(line) :]) for each in text(tallies) if each.startswith(line)]
    return found


@given(AMOUNTS, AMOUNTS)
def test_what_is_exposed_is_as_prometheus_client_has_it(first, second) -> None:
    tallies = Counters()
    flops = Counter("flops", "Spent.", ["budget"], registry=None)
    seconds = Histogram("seconds", "Of a thing.", ["budget", "part"], buckets=BOUNDS, registry=None)
    for budget, amounts in (("low", first), ("full", second)):
        tally = tallies.counter("flops", "Spent.", budget=budget)
        observations = tallies.histogram("seconds", "Of a thing.", BOUNDS, budget=budget, part=1)
        counter, histogram = flops.labels(budget), seconds.labels(budget, 1)
        for amount in amounts:
            tally.add(4 * amount)
            counter.inc(4 * amount)
            observations.add(amount)
            histogram.observe(amount)
    assert text(tallies) == text(flops, seconds)


@pytest.mark.parametrize("reader", [0, 1])
def test_workers_are_read_together(tmp_path, reader) -> None:
    workers = [Counters(tmp_path, number) for number in (0, 1)]
    for amount, each in enumerate(workers, 1):
        each.counter("flops", "Spent.", budget="low").add(amount)
        each.histogram("seconds", "Of a thing.", BOUNDS).add(0.5)
    assert value(workers[reader], 'flops_total{budget="low"}') == 3
    assert value(workers[reader], 'seconds_bucket{le="0.5"}') == 2
    assert value(workers[reader], "seconds_count") == 2


def test_a_successor_goes_on(tmp_path) -> None:
    for amount in (3, 4):
        tallies = Counters(tmp_path, 1)
        tallies.counter("flops", "Spent.").add(amount)
    assert value(tallies, "flops_total") == 7


def test_a_file_that_has_just_been_made_counts_nothing(tmp_path) -> None:
    tallies = Counters(tmp_path, 0)
    tallies.counter("flops", "Spent.").add(3)
    (tmp_path / "1.tallies").touch()
    assert value(tallies, "flops_total") == 3
