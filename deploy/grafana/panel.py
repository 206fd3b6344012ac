"""What panels are made of, and the expressions that they share.

Expressions sum over workers and replicas, so they hold for one process as for many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RATE = "[$__rate_interval]"
JOB = 'job=~"$job"'
ASKED = f'{JOB},budget=~"$budget"'
FLOPS, RATIO, SECONDS = "si: flops", "percentunit", "s"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        advice: what to do when it looks wrong.
        queries: each an expression in PromQL and the name of its series.
        width: of the dashboard's 24 columns.
        limits: where it turns yellow, and red.
        repeat: draw it for each budget.
    """

    title: str
    unit: str
    advice: str
    queries: tuple[tuple[str, str], ...]
    width: int = 12
    kind: Literal["lines", "stacked", "number"] = "lines"
    limits: tuple[float, float] | None = None
    highest: float | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", where: str = ASKED) -> str:
    """A counter's growth in a second, summed."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(offramp_{metric}{{{where}}}{RATE}))"


def quantile(share: float, metric: str, by: str, where: str) -> str:
    """A quantile of a histogram for each value of a label."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{by}, le', where)})"


def mean(metric: str, by: str, where: str = JOB) -> str:
    """The mean of a histogram for each value of a label."""
    return f"{rate(f'{metric}_sum', by, where)} / {rate(f'{metric}_count', by, where)}"


def saved(by: str = "") -> str:
    """The share of full depth's flops that early exits did not spend."""
    return f"1 - {rate('flops_spent_total', by)} / {rate('flops_full_total', by)}"


def outcomes(names: str) -> str:
    """The share of requests that ended so; cancelled ones are nobody's fault."""
    ended, all_ = f'{ASKED},outcome=~"{names}"', f'{ASKED},outcome!="cancelled"'
    return f"{rate('requests_total', where=ended)} / {rate('requests_total', where=all_)}"
