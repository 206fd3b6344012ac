"""Prometheus metrics: prefix `offramp_`, seconds, labels that the manifest or the code fixes.

A request is one image. Flops are multiply-adds. Every series exists from the start, and its
child is looked up once: an observation costs about a microsecond.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

Outcome = Literal["answered", "deadline", "expired", "refused", "cancelled", "failed"]
OUTCOMES: tuple[Outcome, ...] = (
    "answered",  # left where its policy lets it
    "deadline",  # answered at its deadline, at the deepest exit reached
    "expired",  # deadline passed before the first exit
    "refused",  # no slot
    "cancelled",  # the client hung up, or another image of the call ended in an error
    "failed",  # a stage broke down
)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
WINDOW = 1000  # answers of a budget that the shares seen are taken over
ENOUGH = 100  # answers; fewer say nothing about drift


@dataclass(frozen=True, slots=True)
class Model:
    """What the metrics say of the model.

    Attributes:
        flops_to_exit: of each exit.
        expected: for each named budget, the share of requests expected at each exit.
        unexpected: further budget labels, of which no shares are expected.
    """

    name: str
    version: str
    precision: str
    provider: str
    flops_to_exit: tuple[int, ...]
    expected: Mapping[str, tuple[float, ...]]
    unexpected: tuple[str, ...]

    @property
    def budgets(self) -> tuple[str, ...]:
        """Every budget label."""
        return (*self.expected, *self.unexpected)


class ExitShares:
    """The share of recent answers that left at each exit, beside the share expected."""

    def __init__(self, expected: Sequence[float]) -> None:
        self._expected = tuple(expected)
        self._recent: deque[int] = deque(maxlen=WINDOW)
        self._counts = [0] * len(expected)

    def add(self, stage: int) -> None:
        """One more answer left at the exit of `stage` (from 0)."""
        if len(self._recent) == WINDOW:
            self._counts[self._recent[0]] -= 1
        self._recent.append(stage)
        self._counts[stage] += 1

    def seen(self, stage: int) -> float:
        """The share of recent answers that left here; NaN before there are enough."""
        seen = len(self._recent)
        return self._counts[stage] / seen if seen >= ENOUGH else math.nan

    def drift(self) -> float:
        """Total variation distance between seen and expected: 0 the same, 1 apart."""
        pairs = enumerate(self._expected)
        return sum(abs(self.seen(stage) - share) for stage, share in pairs) / 2


class Metrics:
    """All metrics of one app, in a registry of its own."""

    def __init__(self, model: Model) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._flops_to_exit = model.flops_to_exit
        self._declare_requests(model)
        self._declare_stages(len(model.flops_to_exit))
        self._declare_shares(model)
        info = self._gauge(
            "model_info", "The model that is served.", "model version precision provider"
        )
        info.labels(model.name, model.version, model.precision, model.provider).set(1)

    def _declare_requests(self, model: Model) -> None:
        budgets, exits = model.budgets, range(1, len(model.flops_to_exit) + 1)
        requests = self._counter("requests", "Requests by budget and outcome.", "budget outcome")
        taken = self._counter("exits", "Answers by budget and exit.", "model budget exit")
        spent = self._counter("flops_spent", "Flops to the exits taken.", "budget")
        full = self._counter("flops_full", "Flops that full depth would have spent.", "budget")
        latency = self._histogram("request_seconds", "Arrival to answer.", SECONDS, "budget")
        confidence = self._histogram("confidence", "At the exit taken.", CONFIDENCES, "exit")
        part = self._histogram("request_part_seconds", "Parts of request_seconds.", SECONDS, "part")
        problems = self._counter("problems", "Error answers (calls) by problem type.", "type")
        self._requests = {b: {o: requests.labels(b, o) for o in OUTCOMES} for b in budgets}
        self._exits = {b: [taken.labels(model.name, b, e) for e in exits] for b in budgets}
        self._spent = {b: spent.labels(b) for b in budgets}
        self._full = {b: full.labels(b) for b in budgets}
        self._latency = {b: latency.labels(b) for b in budgets}
        self._confidence = [confidence.labels(e) for e in exits]
        self._queue, self._decode, self._compute = map(part.labels, ("queue", "decode", "compute"))
        self._problems = problems

    def _declare_stages(self, stages: int) -> None:
        duration = self._histogram("stage_seconds", "One batch of a stage.", SECONDS, "stage")
        size = self._histogram("batch_size", "Requests in a batch.", SIZES, "stage")
        self._stages = [(duration.labels(k), size.labels(k)) for k in range(1, stages + 1)]

    def _declare_shares(self, model: Model) -> None:
        labels = "model budget exit"
        expected = self._gauge("exit_share_expected", "Share that the manifest expects.", labels)
        seen = self._gauge("exit_share_seen", f"Share of the last {WINDOW} answers.", labels)
        drift = self._gauge(
            "exit_drift", "Total variation distance, shares seen to expected.", "model budget"
        )
        promised = self._gauge(
            "flops_expected", "Mean flops of an answer that the manifest expects.", "budget"
        )
        self._shares = {budget: ExitShares(shares) for budget, shares in model.expected.items()}
        for budget, shares in self._shares.items():
            drift.labels(model.name, budget).set_function(shares.drift)
            mean = zip(model.expected[budget], model.flops_to_exit, strict=True)
            promised.labels(budget).set(sum(share * flops for share, flops in mean))
            for stage, share in enumerate(model.expected[budget]):
                at = (model.name, budget, stage + 1)
                expected.labels(*at).set(share)
                seen.labels(*at).set_function(partial(shares.seen, stage))

    def watch(
        self,
        slots: int,
        pool_bytes: int,
        slots_in_use: Callable[[], int],
        queue_depth: Callable[[], int],
    ) -> None:
        """Show the pool and the queue, read at each scrape."""
        self._gauge("slots", "Slots of the pool.").set(slots)
        self._gauge("pool_bytes", "Bytes of all slots.").set(pool_bytes)
        self._gauge("slots_in_use", "Slots that requests hold.").set_function(slots_in_use)
        self._gauge("queue_depth", "Requests that wait for a batch.").set_function(queue_depth)

    def count(self, budget: str, outcome: Outcome, requests: int = 1) -> None:
        """Requests of a budget ended like this."""
        self._requests[budget][outcome].inc(requests)

    def answer(
        self,
        budget: str,
        stage: int,
        confidence: float,
        *,
        total: float,
        queue: float,
        compute: float,
        deadline_hit: bool,
    ) -> None:
        """A request left at the exit of `stage` (from 0); times in seconds.

        Only an exit that the policy chose, not the deadline, counts for drift.
        """
        self.count(budget, "deadline" if deadline_hit else "answered")
        self._exits[budget][stage].inc()
        self._spent[budget].inc(self._flops_to_exit[stage])
        self._full[budget].inc(self._flops_to_exit[-1])
        self._latency[budget].observe(total)
        self._confidence[stage].observe(confidence)
        self._queue.observe(queue)
        self._compute.observe(compute)
        if budget in self._shares and not deadline_hit:
            self._shares[budget].add(stage)

    def decode(self, seconds: float) -> None:
        """The images of a call were decoded."""
        self._decode.observe(seconds)

    def batch(self, stage: int, size: int, seconds: float) -> None:
        """A stage (from 0) ran a batch."""
        duration, sizes = self._stages[stage]
        duration.observe(seconds)
        sizes.observe(size)

    def problem(self, type_: str) -> None:
        """A call was answered with a problem of this type."""
        self._problems.labels(type_).inc()

    def _counter(self, name: str, text: str, labels: str = "") -> Counter:
        return Counter(f"offramp_{name}", text, labels.split(), registry=self.registry)

    def _gauge(self, name: str, text: str, labels: str = "") -> Gauge:
        return Gauge(f"offramp_{name}", text, labels.split(), registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: str = ""
    ) -> Histogram:
        return Histogram(
            f"offramp_{name}", text, labels.split(), registry=self.registry, buckets=buckets
        )
