from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from serving.models.catalog import Catalog, Trial
from serving.models.metrics import CatalogMetrics

Value = Callable[..., float | None]


def values_of(catalog: Catalog) -> Value:
    """Return the function that reads a sample by its name and labels."""
    registry = CollectorRegistry()
    registry.register(CatalogMetrics(lambda: catalog))
    return lambda name, **labels: registry.get_sample_value(f"offramp_model_{name}", labels)


@pytest.fixture
def catalog() -> Catalog:
    """Return one of `cats` 1 and 2, and of `dogs` 1."""
    first = Catalog().loading("cats", "1", "a", keep_previous=True)
    second = first.loading("cats", "2", "b", keep_previous=True)
    return second.loading("dogs", "1", "c", keep_previous=True)


def test_the_version_that_answers_has_the_share_that_a_canary_does_not_have(
    catalog: Catalog,
) -> None:
    value = values_of(catalog)
    assert [value("share", model="cats", version=v) for v in "123"] == [0, 1, None]
    tried = values_of(catalog.trying("cats", "d", Trial("3", 0.05), keep_previous=True))
    assert [tried("share", model="cats", version=v) for v in "123"] == [0, 0.95, 0.05]
    assert tried("share", model="dogs", version="1") == 1


def test_loads_and_failures_of_each_model_are_counted(catalog: Catalog) -> None:
    value = values_of(catalog.failing("cats", "3", "why"))
    assert value("loads_total", model="cats", result="loaded") == 2
    assert value("loads_total", model="cats", result="failed") == 1
    assert value("loads_total", model="dogs", result="failed") == 0
    assert value("last_load_failed", model="cats") == 1
    assert value("last_load_failed", model="dogs") == 0


def test_a_failure_is_over_with_the_next_load_and_still_counted(catalog: Catalog) -> None:
    failed = catalog.failing("cats", "3", "why")
    value = values_of(failed.loading("cats", "1", "a", keep_previous=True))
    assert value("last_load_failed", model="cats") == 0
    assert value("loads_total", model="cats", result="failed") == 1


def test_the_series_of_an_unloaded_model_go(catalog: Catalog) -> None:
    value = values_of(catalog.failing("cats", "3", "why").unloading("cats"))
    assert value("share", model="cats", version="2") is None
    assert value("loads_total", model="cats", result="loaded") is None
    assert value("last_load_failed", model="cats") is None
    assert value("share", model="dogs", version="1") == 1
