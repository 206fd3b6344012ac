"""The internals of prometheus_client that the server uses are there, and are named in one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest, values

from serving.observe.prometheus_internals import (
    choose_encoder,
    floatToGoString,
    write_metrics_of_worker,
)
from tests.internals import check_bounds, importers


def test_the_installed_version_is_within_bounds() -> None:
    check_bounds("prometheus-client")


@pytest.mark.parametrize("module", ["values", "utils", "exposition", "mmap_dict", "metrics"])
def test_one_module_imports_them(module: str) -> None:
    assert importers(f"prometheus_client.{module}") <= {"serving/observe/prometheus_internals.py"}


def test_a_new_metric_is_in_the_file_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    write_metrics_of_worker(lambda: 7)
    Gauge("slots", "Of a pool.", registry=None, multiprocess_mode="livesum").set(3)
    assert [file.name for file in tmp_path.iterdir()] == ["gauge_livesum_7.db"]
    values.close_all_multiprocess_files()


@pytest.mark.parametrize("bound", [0.001, 0.25, 1, 10.0, 256, 1e6])
def test_bounds_are_written_as_those_of_its_histograms(bound: float) -> None:
    registry = CollectorRegistry()
    Histogram("seconds", "Of a thing.", buckets=[bound], registry=registry).observe(0)
    text = generate_latest(registry).decode()
    assert f'seconds_bucket{{le="{floatToGoString(bound)}"}} 1.0' in text


@pytest.mark.parametrize(
    "accept", ["", "application/openmetrics-text; version=x", f"text/plain;version={'1' * 5000}"]
)
def test_the_text_format_is_the_default(accept: str) -> None:
    encode, content_type = choose_encoder(accept)
    assert content_type.startswith("text/plain")
    assert encode(CollectorRegistry()) == b""
