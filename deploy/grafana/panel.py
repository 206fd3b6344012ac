"""Define panels, rows and common expressions.

Expressions sum over workers and replicas, so they are correct for one process and for many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RATE = "[$__rate_interval]"
JOB = 'job=~"$job"'
MODEL = f'{JOB},model=~"$model",version=~"$version"'  # matches series without these labels too
SELECTED = f'{MODEL},budget=~"$budget"'
FLOPS, RATIO, SECONDS = "si: flops", "percentunit", "s"


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the dashboard.

    Attributes:
        title: Title above the panel.
        unit: Unit of the values, in Grafana's names.
        advice: Action for unusual values.
        queries: Pairs of an expression in PromQL and the name of its series.
        width: Width in the dashboard's 24 columns.
        kind: Form of the panel. `number` has its past as an area, `state` shows this moment only.
        limits: Values at which it turns yellow and red.
        highest: Upper end of the axis.
        repeat: Draw the panel once for each budget.
    """

    title: str
    unit: str
    advice: str
    queries: tuple[tuple[str, str], ...]
    width: int = 12
    kind: Literal["lines", "stacked", "number", "state"] = "lines"
    limits: tuple[float, float] | None = None
    highest: float | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with its panels."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", where: str = SELECTED) -> str:
    """Return the summed increase per second of a counter."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(offramp_{metric}{{{where}}}{RATE}))"


def quantile(share: float, metric: str, by: str, where: str) -> str:
    """Return a quantile of a histogram for each value of a label."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{by}, le', where)})"


def mean(metric: str, by: str, where: str = MODEL) -> str:
    """Return the mean of a histogram for each value of a label."""
    return f"{rate(f'{metric}_sum', by, where)} / {rate(f'{metric}_count', by, where)}"


def saved(by: str = "", where: str = SELECTED) -> str:
    """Return the share of full depth's flops that early exits saved."""
    return f"1 - {rate('flops_spent_total', by, where)} / {rate('flops_full_total', by, where)}"


def outcomes(names: str, by: str = "", where: str = SELECTED) -> str:
    """Return the share of requests with these outcomes, among those that were not cancelled."""
    ended, all_ = f'{where},outcome=~"{names}"', f'{where},outcome!="cancelled"'
    return f"{rate('requests_total', by, ended)} / {rate('requests_total', by, all_)}"
