from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from prometheus_client import generate_latest, values
from prometheus_client.parser import text_string_to_metric_families

from serving.observe.exit_drift import MIN_ANSWERS
from serving.observe.metrics import Metrics
from serving.observe.model import Model
from serving.observe.worker_metrics import WorkerMetrics


class StartWorker(Protocol):
    def __call__(self, number: int, queue_depth: Callable[[], int] = ...) -> Metrics: ...


MODEL = Model(
    name="net",
    version="3",
    precision="int8",
    provider="cpu",
    exits=2,
    full_flops=30,
    mean_flops={"low": 15.5},
    expected={"low": (0.75, 0.25)},
    budgets_without_shares=("numeric",),
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(MODEL)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"offramp_{name}", labels)


def answer(metrics: Metrics, budget: str = "low", stage: int = 0, **changes: Any) -> None:
    times: dict[str, Any] = {
        "flops": 20,
        "total": 0.5,
        "queue": 0.3,
        "compute": 0.1,
        "outcome": "answered",
    }
    metrics.answer(budget, stage, 0.85, **times | changes)


def test_an_answer_is_counted_in_every_metric(metrics: Metrics) -> None:
    answer(metrics, stage=1)
    assert value(metrics, "requests_total", budget="low", outcome="answered") == 1
    assert value(metrics, "exits_total", model="net", budget="low", exit="2") == 1
    assert value(metrics, "exits_total", model="net", budget="low", exit="1") == 0
    assert value(metrics, "flops_spent_total", budget="low") == 20
    assert value(metrics, "flops_full_total", budget="low") == 30
    assert value(metrics, "request_seconds_sum", budget="low") == 0.5
    assert value(metrics, "request_part_seconds_sum", part="queue") == 0.3
    assert value(metrics, "request_part_seconds_sum", part="compute") == 0.1
    assert value(metrics, "confidence_bucket", exit="2", le="0.8") == 0
    assert value(metrics, "confidence_bucket", exit="2", le="0.9") == 1


def test_other_outcomes_are_counted_without_flops(metrics: Metrics) -> None:
    metrics.count("numeric", "refused", 3)
    assert value(metrics, "requests_total", budget="numeric", outcome="refused") == 3
    assert value(metrics, "flops_spent_total", budget="numeric") == 0


def test_batches_decoding_and_problems_are_counted(metrics: Metrics) -> None:
    metrics.batch(1, 5, 0.25)
    metrics.decode(0.125)
    metrics.problem("pool-full")
    metrics.batch(None, 8, 0.5)
    assert value(metrics, "stage_seconds_sum", stage="all") == 0.5
    assert value(metrics, "batch_size_sum", stage="all") == 8
    assert value(metrics, "stage_seconds_sum", stage="2") == 0.25
    assert value(metrics, "batch_size_sum", stage="2") == 5
    assert value(metrics, "request_part_seconds_sum", part="decode") == 0.125
    assert value(metrics, "problems_total", type="pool-full") == 1


def test_the_pool_is_read_at_each_scrape(metrics: Metrics) -> None:
    depth = iter(range(10))
    metrics.watch(8, 4096, lambda: 3, lambda: next(depth))
    assert (value(metrics, "slots"), value(metrics, "pool_bytes")) == (8, 4096)
    assert value(metrics, "slots_in_use") == 3
    assert [value(metrics, "queue_depth"), value(metrics, "queue_depth")] == [3, 4]


def test_expected_shares_seen_shares_and_drift_are_metrics(metrics: Metrics) -> None:
    at = {"model": "net", "budget": "low"}
    assert value(metrics, "exit_share_expected", **at, exit="1") == 0.75
    assert value(metrics, "flops_expected", budget="low") == 15.5
    assert math.isnan(value(metrics, "exit_drift", **at) or 0)
    for i in range(MIN_ANSWERS):
        answer(metrics, stage=i % 2)
        answer(metrics, stage=1, outcome="deadline")  # not chosen by the policy
        answer(metrics, budget="numeric")
    assert value(metrics, "exit_share_seen", **at, exit="1") == 0.5
    assert value(metrics, "exit_drift", **at) == 0.25
    assert value(metrics, "exit_drift", model="net", budget="numeric") is None


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartWorker]:
    """Start the metrics of several workers, all in this process."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")

    def start(number: int, queue_depth: Callable[[], int] = lambda: 0) -> Metrics:
        own = WorkerMetrics(tmp_path, number, workers=2)
        own.activate()
        metrics = Metrics(MODEL, own)
        metrics.watch(8, 4096, lambda: number, queue_depth)
        metrics.refresh()
        return metrics

    yield start
    values.close_all_multiprocess_files()


def test_every_worker_answers_for_all(worker: StartWorker) -> None:
    workers = worker(1), worker(2)
    answer(workers[0], stage=1)
    answer(workers[1], stage=1)
    workers[1].problem("pool-full")
    for metrics in workers:
        assert value(metrics, "exits_total", model="net", budget="low", exit="2") == 2
        assert value(metrics, "flops_spent_total", budget="low") == 40
        assert value(metrics, "request_seconds_bucket", budget="low", le="0.5") == 2
        assert value(metrics, "problems_total", type="pool-full") == 1
        assert [value(metrics, f"{name}") for name in ("slots", "slots_in_use")] == [16, 3]
        assert value(metrics, "workers") == 2
        info = {"model": "net", "version": "3", "precision": "int8", "provider": "cpu"}
        assert value(metrics, "model_info", **info) == 1


def test_drift_is_of_all_workers(worker: StartWorker) -> None:
    workers = worker(0), worker(1)
    for _ in range(MIN_ANSWERS // 2):
        answer(workers[0], stage=0)
        answer(workers[1], stage=1)
    for metrics in workers:
        at = {"model": "net", "budget": "low"}
        assert value(metrics, "exit_share_seen", **at, exit="1") == 0.5
        assert value(metrics, "exit_drift", **at) == 0.25


def test_the_counts_of_a_dead_worker_stay_and_its_gauges_are_removed(
    worker: StartWorker, tmp_path: Path
) -> None:
    alive, dead = worker(0), worker(1)
    answer(alive)
    answer(dead)
    WorkerMetrics(tmp_path, 1).remove_dead()
    low = {"budget": "low", "outcome": "answered"}
    assert value(alive, "requests_total", **low) == 2
    assert (value(alive, "slots"), value(alive, "workers")) == (8, 1)
    assert value(alive, "workers_expected") == 2
    successor = worker(1)
    answer(successor)
    assert value(alive, "requests_total", **low) == 3
    assert (value(alive, "slots"), value(alive, "workers")) == (16, 2)


def test_live_gauges_are_refreshed_for_other_workers(metrics: Metrics, worker: StartWorker) -> None:
    asyncio.run(asyncio.wait_for(metrics.keep_fresh(), 5))  # returns without other workers

    async def refresh_once() -> None:
        fresh = asyncio.create_task(several.keep_fresh())
        await asyncio.sleep(0)
        fresh.cancel()

    depth = 0
    several, other = worker(0, lambda: depth), worker(1)
    assert value(other, "queue_depth") == 0
    depth = 6
    assert value(other, "queue_depth") == 0
    asyncio.run(refresh_once())
    assert value(other, "queue_depth") == 6


def test_names_have_the_prefix_and_labels_are_bounded(metrics: Metrics) -> None:
    Metrics(MODEL)  # a second app in the process is no conflict
    families = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    names = {family.name for family in families}
    assert all(name.startswith(("offramp_", "process_")) for name in names)
    (info,) = next(f for f in families if f.name == "offramp_model_info").samples
    assert info.labels == {
        "model": "net",
        "version": "3",
        "precision": "int8",
        "provider": "cpu",
    }
    with pytest.raises(KeyError):
        metrics.count("a name from a client", "answered")


def test_rejections_are_counted_by_budget_if_the_model_rejects() -> None:
    metrics = Metrics(replace(MODEL, rejects=True))
    for rejected in (True, False, True):
        metrics.rejection("low", rejected=rejected)
    assert value(metrics, "reject_answers_total", budget="low", reject="true") == 2
    assert value(metrics, "reject_answers_total", budget="low", reject="false") == 1
    assert value(metrics, "reject_answers_total", budget="numeric", reject="true") == 0
    assert value(Metrics(MODEL), "reject_answers_total", budget="low", reject="true") is None
