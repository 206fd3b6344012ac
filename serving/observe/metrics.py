"""Prometheus metrics: prefix `offramp_`, times in seconds, label values from manifest or code.

A request is one image. Flops are multiply-adds. Every time series exists from the start, and each
child is looked up once. Metrics that every answer updates use the cheap types of `counters` and
`exit_drift`, the others those of prometheus_client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, Metric

from serving.observe.counters import Counters
from serving.observe.exit_drift import ExitDrift
from serving.observe.families import Families
from serving.observe.model import Model
from serving.observe.worker_metrics import WorkerMetrics, collect_process

Outcome = Literal["answered", "deadline", "degraded", "expired", "refused", "cancelled", "failed"]
OUTCOMES: tuple[Outcome, ...] = (
    "answered",  # left at the exit that its policy chose
    "deadline",  # answered because of its deadline, at the deepest exit reached
    "degraded",  # answered at its next exit, because of overload
    "expired",  # deadline passed before the first exit
    "refused",  # no free slot
    "cancelled",  # the client disconnected, or another image of the call failed
    "failed",  # a stage failed
)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PROBLEMS = ("offramp_problems", "Error answers (calls) by problem type.")
WORKERS = "Server processes that serve."
ALL = "all"  # value of the label `stage` for batches that run all stages as one graph
NAMES = {False: "false", True: "true"}  # values of the label `reject`
REFRESH_SECONDS = 0.5  # greatest age of another worker's live gauges
CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """All metrics of one app, in a registry of its own.

    Args:
        model: The model that is served.
        worker: This worker's part of the metrics folder, activated. `None` for a single process.
        among: The model is one of several, whose metrics `ServerMetrics` joins.

    Attributes:
        registry: The metrics of all workers, for a scrape.
        counters: Cheap counters of this worker, for further metrics.
        labels: Labels that every series of this model gets. Empty if it is the only one.
        budgets: Every budget label.
    """

    def __init__(
        self, model: Model, worker: WorkerMetrics | None = None, *, among: bool = False
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.labels = {"model": model.name, "version": model.version} if among else {}
        self.budgets = model.budgets
        self._several = worker is not None
        if not among:  # else the process is the server's
            collect_process(self.registry, worker)
        self._full_flops = model.full_flops
        self._live: list[tuple[Gauge, Callable[[], int]]] = []
        self.counters = Counters(worker.folder, worker.worker) if worker else Counters()
        here = None if worker else self.registry
        self._families = Families(self.counters, here, self.labels)
        self._batch_lock = Lock()
        self._drift = ExitDrift(
            model.name, model.expected, worker.folder / "exits" if worker else None
        )
        self._declare_requests(model)
        self._declare_distributions(model)
        self._declare_stages(model.exits)
        self._declare_model(model)
        if model.rejects:
            self._declare_rejections(model.budgets)

    def _declare_requests(self, model: Model) -> None:
        budgets, exits, name = model.budgets, range(1, model.exits + 1), model.name
        requests = self._families.counter("requests", "Requests by budget and outcome.")
        taken = self._families.counter("exits", "Answers by budget and exit.")
        spent = self._families.counter("flops_spent", "Flops to the exits taken.")
        full = self._families.counter("flops_full", "Flops that full depth would have spent.")
        self._requests = {b: {o: requests(budget=b, outcome=o) for o in OUTCOMES} for b in budgets}
        self._exits = {b: [taken(model=name, budget=b, exit=e) for e in exits] for b in budgets}
        self._spent = {b: spent(budget=b) for b in budgets}
        self._full = {b: full(budget=b) for b in budgets}
        self._problems = self._families.problems(*PROBLEMS)

    def _declare_distributions(self, model: Model) -> None:
        histogram = self._families.histogram
        latency = histogram("request_seconds", "Arrival to answer.", SECONDS)
        confidence = histogram("confidence", "At the exit taken.", CONFIDENCES)
        part = histogram("request_part_seconds", "Parts of request_seconds.", SECONDS)
        self._latency = {b: latency(budget=b) for b in model.budgets}
        self._confidence = [confidence(exit=e) for e in range(1, model.exits + 1)]
        self._queue, self._decode, self._compute = (
            part(part=name) for name in ("queue", "decode", "compute")
        )

    def _declare_stages(self, stages: int) -> None:
        duration = self._families.histogram("stage_seconds", "One batch of a stage.", SECONDS)
        size = self._families.histogram("batch_size", "Requests in a batch.", SIZES)
        names = (*range(1, stages + 1), ALL)
        self._stages = [(duration(stage=k), size(stage=k)) for k in names]

    def _declare_model(self, model: Model) -> None:
        gauge = self._families.gauge
        if not self.labels:
            gauge("workers", WORKERS)().set(1)
        text = "Mean flops of an answer that the manifest expects."
        expected = gauge("flops_expected", text, "budget", "livemax")
        for budget, flops in model.mean_flops.items():
            expected(budget).set(flops)
        names = "model version precision provider"
        info = gauge("model_info", "The model that is served.", names, "livemax")
        info(model.name, model.version, model.precision, model.provider).set(1)

    def _declare_rejections(self, budgets: Sequence[str]) -> None:
        text = "Answers with reject=true, by its value."
        rejected = self._families.counter("reject_answers", text)
        self._rejections = {
            b: {v: rejected(budget=b, reject=name) for v, name in NAMES.items()} for b in budgets
        }

    def watch(
        self,
        slots: int,
        pool_bytes: int,
        slots_in_use: Callable[[], int],
        queue_depth: Callable[[], int],
    ) -> None:
        """Add gauges of the pool and the queue, which are read at each refresh."""
        gauge = self._families.gauge
        gauge("slots", "Slots of the pool.")().set(slots)
        text = "Bytes that images and features of all slots can take."
        gauge("pool_bytes", text)().set(pool_bytes)
        in_use = gauge("slots_in_use", "Slots that requests hold.")()
        depth = gauge("queue_depth", "Requests that wait for a batch.")()
        self._live += [(in_use, slots_in_use), (depth, queue_depth)]

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Add the gauge of processes that take requests, of a model that is one of several."""
        text = "Processes in which this version takes requests."
        self._live.append((self._families.gauge("model_ready", text)(), ready))

    def refresh(self) -> None:
        """Set the live gauges, at a scrape of this worker and regularly for those of others."""
        for gauge, read in self._live:
            gauge.set(read())

    async def keep_fresh(self) -> None:
        """Refresh for ever if there are other workers. Return at once if not."""
        while self._several:
            self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics computed at a scrape. The registry collects this object first."""
        self.refresh()
        yield from self.counters.collect()
        yield from self._drift.collect()

    def count(self, budget: str, outcome: Outcome, requests: int = 1) -> None:
        """Count requests of a budget that ended with this outcome."""
        self._requests[budget][outcome].add(requests)

    def answer(
        self,
        budget: str,
        stage: int,
        confidence: float,
        *,
        flops: int,
        total: float,
        queue: float,
        compute: float,
        outcome: Outcome,
    ) -> None:
        """Count an answer at the exit of `stage` (from 0). Times are in seconds.

        For drift only exits chosen by the policy count, not by deadline or overload.
        """
        self.count(budget, outcome)
        self._exits[budget][stage].add()
        self._spent[budget].add(flops)
        self._full[budget].add(self._full_flops)
        self._latency[budget].add(total)
        self._confidence[stage].add(confidence)
        self._queue.add(queue)
        self._compute.add(compute)
        if outcome == "answered":
            self._drift.add(budget, stage)

    def rejection(self, budget: str, *, rejected: bool) -> None:
        """Count an answer to a request that asks whether to reject. Not without `Model.rejects`."""
        self._rejections[budget][rejected].add()

    def decode(self, seconds: float) -> None:
        """Observe the time in which the images of a call were decoded."""
        self._decode.add(seconds)

    def batch(self, stage: int | None, size: int, seconds: float) -> None:
        """Observe a batch of a stage (from 0), or of all stages as one graph (`None`)."""
        duration, sizes = self._stages[-1 if stage is None else stage]
        with self._batch_lock:  # several threads run batches
            duration.add(seconds)
            sizes.add(size)

    def problem(self, type_: str) -> None:
        """Count a call that was answered with a problem of this type."""
        self._problems.labels(type_, *self.labels.values()).inc()
