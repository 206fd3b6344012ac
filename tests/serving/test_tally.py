import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from serving.tally import MOST, Histogram, Observations, Tally

BOUNDS = (0.25, 0.5, 1.0)
AMOUNTS = st.lists(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5]))


def histogram():
    return Histogram("seconds", "Of a thing.", buckets=BOUNDS, registry=CollectorRegistry())


def samples(metric):
    (family,) = metric.collect()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(AMOUNTS)
def test_many_at_once_are_as_many_one_by_one(amounts):
    at_once, one_by_one = histogram(), histogram()
    at_once.observe_all(amounts)
    for amount in amounts:
        one_by_one.observe(amount)
    assert samples(at_once) == samples(one_by_one)


@given(st.lists(AMOUNTS, max_size=4))
def test_observations_are_told_once(parts):
    tallied, expected = histogram(), histogram()
    observations = Observations(tallied)
    for part in parts:
        for amount in part:
            observations.add(amount)
            expected.observe(amount)
        observations.tell()
        assert samples(tallied) == pytest.approx(samples(expected))


def test_no_more_than_so_many_are_kept():
    tallied = histogram()
    observations = Observations(tallied)
    for _ in range(MOST + 1):
        observations.add(0.5)
    assert samples(tallied)["seconds_count",] == MOST
    observations.tell()
    assert samples(tallied)["seconds_count",] == MOST + 1


def test_a_tally_is_told_once():
    counter = Counter("flops", "Spent.", registry=CollectorRegistry())
    tally = Tally(counter)
    for amount in (3, 1, 4):
        tally.add(amount)
    for _ in range(2):
        tally.tell()
        assert samples(counter)["flops_total",] == 8
