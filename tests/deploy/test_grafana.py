import json
import re

import pytest

from deploy.grafana import dashboard
from deploy.grafana.models import MODELS
from deploy.grafana.panel import Panel
from deploy.grafana.panels import ROWS
from deploy.grafana.shadow import SHADOWS
from serving.audit.ledger import Ledger
from serving.audit.metrics import AuditCounters, PromiseMetrics
from serving.audit.standing import AuditedPromise
from serving.models.catalog import Catalog
from serving.models.metrics import CatalogMetrics
from serving.observe.metrics import Metrics
from serving.observe.model import Model

METRIC = re.compile(r"\b(?:offramp|process)_\w+")
HARDWARE = {  # of some machines only
    "offramp_energy_joules_total",
    "offramp_gpu_memory_used_bytes",
    "offramp_gpu_memory_size_bytes",
    "offramp_gpu_utilisation_ratio",
}
SHADOW = {
    "offramp_shadow_total",
    "offramp_shadow_dropped_total",
    "offramp_shadow_exits_total",
    "offramp_shadow_flops_total",
    "offramp_shadow_seconds_bucket",
}
PANELS = [panel for row in ROWS for panel in row.panels]


@pytest.fixture(scope="module")
def exposed() -> set[str]:
    """Return the names of all samples that a server exposes."""
    metrics = Metrics(
        Model("net", "1", "fp32", "cpu", 2, 30, {"low": 20}, {"low": (0.5, 0.5)}, ("numeric",))
    )
    AuditCounters(metrics.counters, ("low",), 2)
    promise = AuditedPromise("promise-95", 0.05, 0.02, ("95%",))
    metrics.registry.register(PromiseMetrics(Ledger([promise])))
    metrics.watch(8, 4096, lambda: 0, lambda: 0)
    metrics.problem("pool-full")
    catalog = Catalog().loading("net", "1", "digest", keep_previous=False)
    metrics.registry.register(CatalogMetrics(lambda: catalog))
    metrics.watch_ready(lambda: True)
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


def test_the_committed_json_is_up_to_date() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run python -m deploy.grafana.dashboard"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_panels_have_a_unit_and_advice(panel: Panel) -> None:
    assert panel.unit
    assert panel.advice.endswith((".", ")"))
    assert len(panel.advice.split()) >= 8


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_panels_read_only_metrics_that_a_server_exposes(panel: Panel, exposed: set[str]) -> None:
    for expression, _ in panel.queries:
        raw = re.sub(r"\b(budget|version):offramp_\w+:\w+", "", expression)
        assert set(METRIC.findall(raw)) <= exposed | HARDWARE | SHADOW


@pytest.mark.parametrize("panel", [*MODELS.panels, *SHADOWS.panels], ids=lambda panel: panel.title)
def test_panels_of_models_have_a_series_for_each_version_or_model(panel: Panel) -> None:
    for expression, legend in panel.queries:
        assert legend == "limit" or ("model" in expression and "{{model}}" in legend)


def test_models_and_versions_can_be_chosen_and_all_of_them_match_a_server_with_one_bundle() -> None:
    variables = json.loads(dashboard.FILE.read_text())["templating"]["list"]
    named = {each["name"]: each for each in variables}
    for name in ("model", "version"):
        assert named[name]["allValue"] == ".*"


def test_a_chosen_version_hides_neither_loads_nor_the_calls_of_other_versions() -> None:
    queries = {panel.title: panel.queries for panel in MODELS.panels}
    for expression, _ in queries["Loads by result, in 10 minutes"]:
        assert "$version" not in expression  # these series have a model only
    (seen, _), _ = queries["Share of the calls of a model: seen (line) and asked for (dashed)"]
    one, _, all_ = seen.partition("group_left")
    assert "$version" in one
    assert "$version" not in all_


def test_only_states_are_those_of_this_moment() -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    instant = {p["title"] for p in panels if any(t["instant"] for t in p.get("targets", ()))}
    assert instant == {"State of promises"}


def test_panels_fill_their_rows_and_have_unique_numbers() -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at.get("x", 0), at.get("x", 0) + at["w"])
        for y in range(at.get("y", 0), at.get("y", 0) + at["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23
