"""Throughput of two servers at saturation, in alternation."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.goals import Goal, spread_over_rounds
from benchmarks.serving.rounds import Effort, Round, Row
from benchmarks.serving.servers.images import Sent
from benchmarks.serving.servers.processes import Server, started
from offramp.load.process import Generator

OLD, NEW = "old", "new"
LEAST = 0.98  # answers/s of the new server over those of the old one


def measure(
    servers: Sequence[Server],
    sent: Sent,
    load: Generator,
    rounds: int,
    seconds: float,
    logs: Path,
) -> Iterator[Row]:
    """Measure each server once a round, alone and in random order.

    Args:
        servers: The servers, each with one budget.
        sent: The images, with their labels.
        load: The load generator.
        rounds: Number of rounds.
        seconds: Duration of one measurement. A warm-up of a quarter of it comes before.
        logs: Folder of the servers' logs.

    Raises:
        RuntimeError: A server does not start.
    """
    for number, order in enumerate(orders(servers, rounds), 1):
        effort = Effort(seconds / 4, seconds, seconds, seconds)
        round_ = Round(number, load, sent.labels, np.inf, effort)
        for server in order:
            with started(server, sent.files[0], logs) as running:
                for budget in server.paths:
                    yield from round_.measure_saturation(running, budget)


def orders(servers: Sequence[Server], rounds: int) -> list[Sequence[Server]]:
    """Return the order of the servers in each round.

    Forward and backward orders are equally frequent, up to one, in random sequence.
    """
    both = servers, servers[::-1]
    chosen = [both[number % 2] for number in range(rounds)]
    random.Random(rounds).shuffle(chosen)
    return chosen


def ratios(rows: Sequence[Row]) -> list[float]:
    """Return answers/s of the new server over those of the old one, for each round."""
    rates = {(row.round, row.server): row.rate for row in rows}
    numbers = sorted({row.round for row in rows})
    return [rates[number, NEW] / rates[number, OLD] for number in numbers]


def goal(rows: Sequence[Row]) -> Goal:
    """Compare the median ratio with `LEAST`. The figure has the range too."""
    found = ratios(rows)
    median = float(np.median(found))
    text = f"answers/s at saturation, new / old >= {LEAST}"
    return Goal(text, spread_over_rounds(found), median >= LEAST)


def line(row: Row) -> str:
    """Return a row as one line of text."""
    return (
        f"round {row.round:2}  {row.server:4} {row.rate:8.1f} answers/s  {row.cpu:6.2f} CPU ms "
        f"per answer  p50 {row.p50:7.2f}  p99 {row.p99:7.2f} ms  "
        f"{100 * row.answered:.1f} % answered  {row.memory / 1e6:.0f} MB"
    )
