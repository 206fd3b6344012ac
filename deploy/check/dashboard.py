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

RATE_INTERVAL = "20s"  # four scrapes of 5 s, from the data source's timeInterval
LEFT_OUT = re.compile("offramp_(energy|gpu|shadow)_")  # of some machines, and of a shadow


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


def expressions_without_data(
    prometheus: Prometheus, budgets: list[str], start: float, end: float, *, models: bool
) -> tuple[int, list[str]]:
    """Return the number of expressions, and those that give no number.

    Those of metrics that only some machines have, and of shadows, are left out.

    Args:
        prometheus: Prometheus with the data.
        budgets: Budgets that were asked for.
        start: Start of the data, in seconds.
        end: End of the data, in seconds.
        models: The server has several models. If not, the row of models is left out.
    """
    of_models = {panel.title for panel in MODELS.panels}
    shown = [each for each in panels(budgets) if models or each.title not in of_models]
    sent = [(p, e) for p in shown for e, _ in p.queries if not LEFT_OUT.search(e)]
    empty = [
        f"{panel.title}: {expression}"
        for panel, expression in sent
        if not _has_numbers(prometheus.between(expression, start, end, step=5))
    ]
    return len(sent), empty


def _has_numbers(found: list[Series]) -> bool:
    return any(math.isfinite(value) for series in found for value in series.values)
