"""Read the dashboard's expressions from the shipped JSON, with variables filled in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.check.prometheus import Prometheus, Series
from deploy.grafana.dashboard import FILE
from deploy.grafana.models import MODELS
from deploy.grafana.shadow import SHADOWS

RATE_INTERVAL = "20s"  # four scrapes of 5 s, from the data source's timeInterval
HARDWARE = re.compile(r"offramp_(?:energy|gpu)_\w+")  # metrics of some machines only


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel with its variables filled in. `queries` are expressions and legends."""

    panel: dict[str, Any]
    title: str
    queries: tuple[tuple[str, str], ...]


def panels(budgets: list[str]) -> Iterator[Shown]:
    """Yield every panel, repeated ones once for each budget. Headings of rows have no queries."""
    for panel in json.loads(FILE.read_text(encoding="utf-8"))["panels"]:
        targets = panel.get("targets", ())
        for budget in budgets if "repeat" in panel else ["|".join(budgets)]:
            queries = tuple((_fill(each["expr"], budget), each["legendFormat"]) for each in targets)
            yield Shown(panel, panel["title"].replace("$budget", budget), queries)


def _fill(expression: str, budget: str) -> str:
    filled = expression.replace("$__rate_interval", RATE_INTERVAL)
    filled = filled.replace("$model", ".*").replace("$version", ".*")
    return filled.replace("$job", "offramp").replace("$budget", budget)


def legend(text: str, labels: Series) -> str:
    """Fill the labels of a series into its legend, such as `exit {{exit}}`."""
    return re.sub(r"{{(\w+)}}", lambda match: labels.labels.get(match[1], ""), text)


@dataclass(frozen=True, slots=True)
class Found:
    """The expressions of the dashboard against recorded data.

    Attributes:
        sent: Number of the expressions that were sent.
        empty: Those that gave no number, each after the title of its panel.
        left_out: Titles of panels that were left out, of devices that this machine does not have.
    """

    sent: int
    empty: tuple[str, ...]
    left_out: tuple[str, ...]


def search(
    prometheus: Prometheus, budgets: list[str], start: float, end: float, *, models: bool
) -> Found:
    """Send every expression of the dashboard.

    Args:
        prometheus: Prometheus with the data.
        budgets: Budgets that were asked for.
        start: Start of the data, in seconds.
        end: End of the data, in seconds.
        models: The server has several versions, one of them a shadow and then a canary. If not, the
            rows of models and of shadows are left out.
    """
    of_models = {panel.title for row in (MODELS, SHADOWS) for panel in row.panels}
    shown = [each for each in panels(budgets) if models or each.title not in of_models]
    pairs = [(panel.title, expression) for panel in shown for expression, _ in panel.queries]
    absent = {pair for pair in pairs if not is_counted(prometheus, pair[1], start, end)}
    sent = [pair for pair in pairs if pair not in absent]
    empty = [
        f"{title}: {expression}"
        for title, expression in sent
        if not _has_numbers(prometheus.between(expression, start, end, step=5))
    ]
    return Found(len(sent), tuple(empty), tuple(sorted({title for title, _ in absent})))


def is_counted(prometheus: Prometheus, expression: str, start: float, end: float) -> bool:
    """Return False if an expression reads metrics of devices that the machine does not have."""
    names = HARDWARE.findall(expression)
    return all(prometheus.between(name, start, end, step=60) for name in names)


def _has_numbers(found: list[Series]) -> bool:
    return any(math.isfinite(value) for series in found for value in series.values)
