"""Metrics of a server with several models, joined at a scrape.

Every series of a model has the labels `model` and `version`. The series of a version that is not
loaded any more are not given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.samples import Sample

from serving.observe.metrics import PROBLEMS, REFRESH_SECONDS, WORKERS, Metrics
from serving.observe.worker_metrics import WorkerMetrics, collect_process


class ServerMetrics:
    """Metrics of the server and of all models that are loaded.

    Args:
        loaded: Returns the metrics of the loaded models.
        worker: This worker's part of the metrics folder, activated. `None` for a single process.

    Attributes:
        registry: The metrics of all workers, for a scrape.
        own: Those of the server alone.
    """

    def __init__(
        self, loaded: Callable[[], Iterable[Metrics]], worker: WorkerMetrics | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.own = CollectorRegistry()
        self._loaded = loaded
        self._several = worker is not None
        here = None if worker else self.own
        collect_process(self.own, worker)
        self._problems = PrometheusCounter(*PROBLEMS, ["type"], registry=here)
        workers = Gauge("offramp_workers", WORKERS, registry=here, multiprocess_mode="livesum")
        workers.set(1)

    def problem(self, type_: str) -> None:
        """Count a call that was answered with a problem of this type, by no model."""
        self._problems.labels(type_).inc()

    async def keep_fresh(self) -> None:
        """Refresh for ever if there are other workers. Return at once if not."""
        while self._several:
            self._refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the server and of each loaded model, a family once."""
        self._refresh()
        models = {tuple(each.labels.values()): each for each in self._loaded()}
        joined: dict[str, Metric] = {}
        for family in self.own.collect():
            family.samples = [each for each in family.samples if _is_of(each, models)]
            joined[family.name] = family
        for metrics in models.values():
            _join(joined, metrics)
        yield from (family for family in joined.values() if family.samples)

    def _refresh(self) -> None:
        for metrics in self._loaded():
            metrics.refresh()


def _join(joined: dict[str, Metric], metrics: Metrics) -> None:
    """Add the samples of a model to those of the families of the same names."""
    for family in metrics.registry.collect():
        there = joined.setdefault(family.name, family)
        samples = [_labelled(each, metrics.labels) for each in family.samples]
        there.samples = samples if there is family else [*there.samples, *samples]


def _is_of(sample: Sample, models: Iterable[tuple[str, ...]]) -> bool:
    """Return whether a sample is of a loaded model, or of none."""
    labels = sample.labels
    return "version" not in labels or (labels.get("model", ""), labels["version"]) in models


def _labelled(sample: Sample, labels: dict[str, str]) -> Sample:
    return sample._replace(labels={**sample.labels, **labels})
