"""Measure one server in one round: at saturation, for one client, and at given rates."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.serving.servers.processes import Running, Usage
from offramp.load.outcomes import (
    Integers,
    Outcomes,
    closed,
    completed,
    open_loop,
    poisson,
)
from offramp.load.process import Generator
from offramp.load.sender import Load, Report

CLIENTS = 64
CONNECTIONS = 1024  # most connections of an open loop
MANY = 1_000_000  # requests; a closed loop ends by time
SATURATION, SINGLE, OPEN, LIMIT = "saturation", "single", "open", "limit"
RATES = (0.4, 0.6, 0.7, 0.8, 0.9, 1.0)  # of saturation
SETTLED = 0.2  # share of a measurement that is ignored, while queues fill


@dataclass(frozen=True, slots=True)
class Row:
    """Result of a measurement. Times in milliseconds, rates per second. NaN for a missing value.

    Attributes:
        round: Number of the round, from 1.
        server: Name of the server, or LIMIT.
        measure: SATURATION, SINGLE, OPEN or LIMIT.
        budget: Budget of the requests.
        share: Offered rate as a share of saturation.
        offered: Rate of requests.
        rate: Rate of answers.
        good: Rate of answers within the SLO.
        cpu: CPU time of the server per answer.
        p50: Median latency.
        p99: 99th percentile of latency.
        p999: 99.9th percentile of latency.
        accuracy: Share of correct answers.
        answered: Share of requests with an answer.
        memory: Resident bytes of the server, afterwards.
        generator: CPU time of the load generator per request.
    """

    round: int
    server: str
    measure: str
    budget: str
    share: float = np.nan
    offered: float = np.nan
    rate: float = np.nan
    good: float = np.nan
    cpu: float = np.nan
    p50: float = np.nan
    p99: float = np.nan
    p999: float = np.nan
    accuracy: float = np.nan
    answered: float = np.nan
    memory: float = np.nan
    generator: float = np.nan


@dataclass(frozen=True, slots=True)
class Effort:
    """Duration of each measurement, in seconds."""

    warm_up: float
    saturation: float
    single: float
    open: float


class Round:
    """Measures servers, one after another.

    Args:
        number: Number of the round, from 1. It is also the seed.
        load: The load generator.
        labels: Classes of its images, [N].
        slo: Longest latency of a good answer, in seconds.
        effort: Duration of each measurement.
    """

    def __init__(
        self, number: int, load: Generator, labels: Integers, slo: float, effort: Effort
    ) -> None:
        self._number, self._load, self._labels = number, load, labels
        self._slo, self._effort = slo, effort
        self._rng = np.random.default_rng(number)

    def measure(
        self, running: Running, budgets: Sequence[str], shares: Sequence[float] = RATES
    ) -> list[Row]:
        """Return all rows of a server, for the budgets that it supports."""
        rows = []
        for budget in budgets:
            for full in self.measure_saturation(running, budget):
                rows += [full, self._measure_closed(running, budget, SINGLE)]
                rows += [self.measure_open(running, budget, full.rate, share) for share in shares]
        return rows

    def measure_saturation(self, running: Running, budget: str) -> list[Row]:
        """Measure a server at saturation. Returns no row if it does not support the budget."""
        if budget not in running.server.paths:
            return []
        self._send_closed(running, budget, CLIENTS, self._effort.warm_up)
        return [self._measure_closed(running, budget, SATURATION)]

    def _send_closed(self, running: Running, budget: str, clients: int, seconds: float) -> Report:
        path = running.server.paths[budget]
        plan = closed(path, MANY if clients > 1 else MANY // 10, len(self._labels), self._rng)
        headers = running.server.headers
        return self._load.send(plan, Load(running.port, clients, seconds, headers))

    def _measure_closed(self, running: Running, budget: str, measure: str) -> Row:
        clients = 1 if measure == SINGLE else CLIENTS
        seconds = self._effort.single if measure == SINGLE else self._effort.saturation
        before = running.usage()
        report = self._send_closed(running, budget, clients, seconds)
        return self._row_of(running, budget, measure, report, before, (seconds * SETTLED, seconds))

    def measure_open(self, running: Running, budget: str, saturation: float, share: float) -> Row:
        """Measure a server at a share of a rate, in an open loop."""
        seconds = self._effort.open
        due = poisson(max(share * saturation, 1.0), seconds, self._rng)
        plan = open_loop(running.server.paths[budget], due, len(self._labels), self._rng)
        before = running.usage()
        load = Load(running.port, CONNECTIONS, headers=running.server.headers)
        report = self._load.send(plan, load)
        window = (seconds * SETTLED, seconds)
        return self._row_of(running, budget, OPEN, report, before, window, share)

    def _row_of(
        self,
        running: Running,
        budget: str,
        measure: str,
        report: Report,
        before: Usage,
        window: tuple[float, float],
        share: float = np.nan,
    ) -> Row:
        after, outcomes = running.usage(), report.outcomes
        seen = outcomes.between(*window)
        seconds = window[1] - window[0]
        answers = int(outcomes.answered.sum())
        return Row(
            round=self._number,
            server=running.server.name,
            measure=measure,
            budget=budget,
            share=share,
            offered=len(seen) / seconds,
            rate=completed(outcomes, *window),
            good=seen.goodput(self._slo, seconds),
            cpu=1e3 * (after.cpu - before.cpu) / max(answers, 1),
            **latencies(seen),
            accuracy=outcomes.accuracy(self._labels),
            answered=answers / max(len(outcomes), 1),
            memory=after.memory,
            generator=1e3 * report.cpu / max(len(outcomes), 1),
        )


def latencies(outcomes: Outcomes) -> dict[str, float]:
    """Return percentiles in milliseconds, by their names in a row."""
    return {
        name: 1e3 * outcomes.percentile(percent)
        for name, percent in (("p50", 50), ("p99", 99), ("p999", 99.9))
    }


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f.name for f in fields(Row)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
