"""Declare the metrics of one model: each has the prefix `offramp_` and the labels of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import Counter as PrometheusCounter

from serving.observe.counters import Counter, Counters, Histogram

Mode = Literal["livesum", "livemax"]  # reduction of a gauge over several workers


class Families:
    """Declares metrics.

    Args:
        counters: Cheap counters of this worker.
        registry: Registry for the types of prometheus_client. `None`: it reads them from files.
        labels: Labels that every series of these types gets.
    """

    def __init__(
        self, counters: Counters, registry: CollectorRegistry | None, labels: Mapping[str, str]
    ) -> None:
        self._counters = counters
        self._registry = registry
        self._labels = labels

    def counter(self, name: str, text: str) -> Callable[..., Counter]:
        """Return the function from labels to a time series of a cheap counter."""
        return partial(self._counters.counter, f"offramp_{name}", text)

    def histogram(self, name: str, text: str, bounds: Sequence[float]) -> Callable[..., Histogram]:
        """Return the function from labels to a time series of a cheap histogram."""
        return partial(self._counters.histogram, f"offramp_{name}", text, bounds)

    def problems(self, name: str, text: str) -> PrometheusCounter:
        """Declare a counter by problem type. A series exists from its first problem on."""
        return PrometheusCounter(name, text, ["type", *self._labels], registry=self._registry)

    def gauge(
        self, name: str, text: str, labels: str = "", mode: Mode = "livesum"
    ) -> Callable[..., Gauge]:
        """Declare a gauge. Return the function from values of its labels to a time series.

        Args:
            name: Name without the prefix.
            text: Help text.
            labels: Names of its labels, with spaces between them.
            mode: Reduction over several workers.
        """
        names = labels.split()
        own = {label: value for label, value in self._labels.items() if label not in names}
        gauge = Gauge(
            f"offramp_{name}",
            text,
            [*names, *own],
            registry=self._registry,
            multiprocess_mode=mode,
        )
        return lambda *values: gauge.labels(*values, *own.values()) if names or own else gauge
