"""Measure the compute time of answers to budgets in milliseconds, alone and at half of saturation.

    python -m benchmarks.budgets.milliseconds --bundle deploy/bundles/clothing-lite0 --data clothing

The compute time of answers is that of all batches of the server (`offramp_stage_seconds_sum`),
divided by the answers. Budgets lie between the cheapest and the dearest point that the server
states (`milliseconds` of GET /model). Alone, each request waits for the answer to the last. For
half of saturation, the rate is measured with 32 clients at the same budget, and requests arrive at
random times (Poisson) at half of it. Answers before those that count let the server measure its
times. Exit status 1 if a mean is not within 10 % of what was asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from benchmarks.client import counters, serving
from benchmarks.engine.classifier import contents_of
from benchmarks.goals import Goal, print_goals
from offramp.load.outcomes import Plan, closed, completed, open_loop, poisson
from offramp.load.process import Generator, generator
from offramp.load.sender import Load

WITHIN = 0.10  # relative difference to the budget
SHARES = (0.15, 0.5, 0.85)  # budgets, from the cheapest point (0) to the dearest (1)
BEFORE = 300  # answers that are not counted
CLIENTS = 32
SATURATED = 4.0  # seconds
SPENT = "offramp_stage_seconds_sum"
REPORTED = 'offramp_request_part_seconds_sum{part="compute"}'


@dataclass(frozen=True, slots=True)
class Measured:
    """Means of answers in milliseconds.

    Attributes:
        spent: Time of all batches, divided by the answers.
        reported: `timings_ms.compute`, in which the whole batch counts for each of its answers.
    """

    spent: float
    reported: float


class Subject:
    """A server and the load generator.

    Args:
        url: URL of the server.
        load: The generator.
        images: Number of its images.
    """

    def __init__(self, url: str, load: Generator, images: int) -> None:
        self._url, self._load, self._images = url, load, images
        self._port = urlsplit(url).port or 0
        self._rng = np.random.default_rng(0)

    def budgets(self) -> list[str]:
        """Return budgets between the cheapest and the dearest point, measured under requests."""
        self._load.send(self._closed("medium", BEFORE), Load(self._port, 1))
        measured = httpx.get(f"{self._url}/model").json()["milliseconds"]
        low, high = measured["stages"][0]["with_head"], measured["dearest"]
        return [f"{low + share * (high - low):.3g}ms" for share in SHARES]

    def alone(self, budget: str, answers: int) -> Measured:
        """Return the means of requests that come one after the other."""
        plans = [self._closed(budget, count) for count in (BEFORE, answers)]
        return self._measured(plans, 1, answers)

    def at_half_load(self, budget: str, answers: int) -> tuple[float, Measured]:
        """Return half of the saturated rate in answers per second, and the means at it."""
        load = Load(self._port, CLIENTS, SATURATED)
        report = self._load.send(self._closed(budget, 1_000_000), load)
        rate = completed(report.outcomes, SATURATED / 4, SATURATED) / 2
        return rate, self._measured(
            [self._arriving(budget, rate, count) for count in (BEFORE, answers)], 256, answers
        )

    def _measured(self, plans: Sequence[Plan], connections: int, answers: int) -> Measured:
        before, counted = plans
        self._load.send(before, Load(self._port, connections))
        start = _totals(self._url)
        report = self._load.send(counted, Load(self._port, connections))
        count = int(report.outcomes.answered.sum())
        statuses = set(report.outcomes.status.tolist())
        assert count == answers, f"{answers - count} requests failed with {statuses}"
        spent, reported = _totals(self._url) - start
        return Measured(1e3 * spent / count, 1e3 * reported / count)

    def _closed(self, budget: str, answers: int) -> Plan:
        return closed(f"/classify?budget={budget}", answers, self._images, self._rng)

    def _arriving(self, budget: str, rate: float, answers: int) -> Plan:
        due = poisson(rate, 2 * answers / rate + 10 / rate, self._rng)[:answers]
        return open_loop(f"/classify?budget={budget}", due, self._images, self._rng)


def _totals(url: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the seconds of all batches, and those that answers reported."""
    found = counters(url)
    spent = sum(value for name, value in found.items() if name.startswith(SPENT))
    return np.array([spent, found[REPORTED]])


def goals_of(subject: Subject, budgets: Sequence[str], answers: int) -> Iterator[Goal]:
    """Measure budgets, and yield their goals."""
    for budget in budgets:
        yield _goal(budget, "alone", subject.alone(budget, answers))
        rate, found = subject.at_half_load(budget, answers)
        yield _goal(budget, f"at {rate:.0f} answers/s, half of saturation", found)


def _goal(budget: str, condition: str, found: Measured) -> Goal:
    apart = found.spent / float(budget.removesuffix("ms")) - 1
    return Goal(
        f"budget={budget} {condition}: mean compute within {WITHIN:.0%}",
        f"{found.spent:.3g} ms ({apart:+.1%}; batches ran for {found.reported:.3g} ms)",
        abs(apart) <= WITHIN,
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the measurement and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder or parquet file of images")
    parser.add_argument("--budgets", nargs="*", help="budgets, as in 4ms 8ms (default: three)")
    parser.add_argument("--answers", type=int, default=1000, help="answers (default: 1000)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the server (default: 1)")
    options = parser.parse_args(words)
    files = contents_of(options.data, options.answers)
    with serving(options.bundle, f"--threads={options.threads}") as url, generator(files) as load:
        subject = Subject(url, load, len(files))
        budgets = options.budgets or subject.budgets()
        return print_goals(goals_of(subject, budgets, options.answers))


if __name__ == "__main__":
    sys.exit(main())
