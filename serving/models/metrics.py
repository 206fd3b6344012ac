"""The metrics of the catalog: which versions answer how many calls, and which loads failed.

All workers have the same catalog, so each of them reports the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from serving.models.catalog import Catalog

SHARE = ("offramp_model_share", "Share of the calls without a version that this one answers.")
LOADS = ("offramp_model_loads", "Loads of versions of a model, by result.")
LAST_FAILED = ("offramp_model_last_load_failed", "1 if the last load of the model failed.")


class CatalogMetrics:
    """A collector of the metrics of a catalog.

    Args:
        catalog: Returns the catalog.
    """

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the catalog as of now."""
        catalog = self._catalog()
        yield _shares(catalog)
        yield _loads(catalog)
        yield _last_failed(catalog)


def _shares(catalog: Catalog) -> Metric:
    family = GaugeMetricFamily(*SHARE, labels=["model", "version"])
    for name, entries in catalog.models.items():
        canary = catalog.canaries.get(name)
        tried = {} if canary is None else {canary.version: canary.share}
        rest = 1 - sum(tried.values())
        for entry in entries:
            share = rest if entry is entries[0] else tried.get(entry.version, 0)
            family.add_metric([name, entry.version], share)
    return family


def _loads(catalog: Catalog) -> Metric:
    family = CounterMetricFamily(*LOADS, labels=["model", "result"])
    for name, loads in catalog.loads.items():
        family.add_metric([name, "loaded"], loads.done)
        family.add_metric([name, "failed"], loads.failed)
    return family


def _last_failed(catalog: Catalog) -> Metric:
    family = GaugeMetricFamily(*LAST_FAILED, labels=["model"])
    for name, loads in catalog.loads.items():
        family.add_metric([name], loads.last_failed)
    return family
