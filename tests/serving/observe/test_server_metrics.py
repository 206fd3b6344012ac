from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from serving.observe.metrics import Metrics
from serving.observe.model import Model
from serving.observe.server_metrics import ServerMetrics

MODEL = Model("cats", "1", "fp32", "cpu", 2, 30, {"low": 20}, {"low": (0.5, 0.5)}, ())


@pytest.fixture
def loaded() -> list[Metrics]:
    models = (MODEL, replace(MODEL, name="dogs"))
    found = [Metrics(each, among=True) for each in models]
    for each in found:
        each.watch(8, 100, lambda: 1, lambda: 0)
    return found


def test_every_series_of_a_model_has_its_name_and_version(loaded: list[Metrics]) -> None:
    metrics = ServerMetrics(lambda: loaded)
    loaded[0].count("low", "refused", 2)
    loaded[1].problem("pool-full")
    metrics.problem("not-found")
    value = metrics.registry.get_sample_value
    cats = {"model": "cats", "version": "1"}
    requests = {"budget": "low", "outcome": "refused", **cats}
    assert value("offramp_requests_total", requests) == 2
    assert value("offramp_requests_total", requests | {"model": "dogs"}) == 0
    assert value("offramp_slots_in_use", cats) == 1
    assert value("offramp_exits_total", {**cats, "budget": "low", "exit": "1"}) == 0
    assert value("offramp_problems_total", {"type": "not-found"}) == 1
    assert value("offramp_problems_total", {"type": "pool-full", **cats, "model": "dogs"}) == 1
    assert value("offramp_workers") == value("offramp_workers_expected") == 1
    text = generate_latest(metrics.registry).decode()
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


def test_the_series_of_a_model_go_with_it(loaded: list[Metrics]) -> None:
    metrics = ServerMetrics(lambda: loaded)
    assert 'model="dogs"' in generate_latest(metrics.registry).decode()
    del loaded[1]
    text = generate_latest(metrics.registry).decode()
    assert 'model="dogs"' not in text
    assert 'model="cats"' in text
