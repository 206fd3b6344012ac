"""Flood one model of a server, and measure the latency of another one.

    python -m benchmarks.serving.reload.flood --rounds 5

Requests for the second model come at random times, at 30 % of the rate at which it saturates alone.
Each round measures their latency alone, and while clients in a closed loop ask the first model all
the time. Goal: the median p99 of the rounds is at most twice that without the flood, and no request
for the second model fails. Exit status 1 if a goal is missed.

The clients of the flood have a lower priority than the server and the other client, which they
would else take the cores from.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.goals import Goal, print_goals
from benchmarks.serving.reload.models import Versions
from benchmarks.serving.reload.subject import images_of, server_of
from benchmarks.serving.rounds import CLIENTS, CONNECTIONS, SETTLED
from benchmarks.serving.servers.processes import Running, started
from offramp.load.outcomes import Outcomes, Plan, closed, completed, open_loop, poisson
from offramp.load.process import Generator, generator
from offramp.load.sender import Load, send

FLOODED, OTHER = "flooded", "other"
RATIO = 2.0  # most p99 beside the flood, relative to that alone
NICENESS = 10  # of the clients of the flood
LEAD = 0.15  # of the time of a measurement, by which the flood begins earlier and ends later
MOST_PER_SECOND = 20_000  # answers; a plan of a closed loop has that many requests


@dataclass(frozen=True, slots=True)
class Round:
    """Results of a round.

    Attributes:
        alone: Requests for the other model without a flood.
        beside: The same beside the flood.
        flood: Answers per second to the flood.
    """

    alone: Outcomes
    beside: Outcomes
    flood: float

    @property
    def failed(self) -> int:
        """Return the number of requests for the other model without an answer."""
        return sum(int((~each.answered).sum()) for each in (self.alone, self.beside))

    def __str__(self) -> str:
        alone, beside = (
            " ".join(f"p{percent} {1e3 * each.percentile(percent):.1f}" for percent in (50, 99))
            for each in (self.alone, self.beside)
        )
        return f"alone {alone} ms, beside a flood of {self.flood:.0f}/s {beside} ms"


class Measurement:
    """Measures rounds of a server.

    Args:
        running: The server.
        load: Generator of requests for the other model.
        flood: Process of the clients of the flood.
        images: Bodies of all requests.
        arguments: The command line.
    """

    def __init__(
        self,
        running: Running,
        load: Generator,
        flood: ProcessPoolExecutor,
        images: Sequence[bytes],
        arguments: argparse.Namespace,
    ) -> None:
        self._port, self._load, self._flood, self._images = running.port, load, flood, images
        self._seconds, self._share = arguments.seconds, arguments.share
        self._clients, self._budget = arguments.clients, arguments.budget
        self._rng = np.random.default_rng(0)

    def capacity(self) -> float:
        """Return the answers per second of the other model at saturation, alone."""
        load = Load(self._port, CLIENTS, self._seconds)
        outcomes = self._load.send(self._closed(OTHER, self._seconds), load).outcomes
        return completed(outcomes, self._seconds * SETTLED, self._seconds)

    def round(self, capacity: float) -> Round:
        """Measure the other model alone, and beside a flood."""
        alone = self._ask(capacity)
        lead = LEAD * self._seconds
        seconds = self._seconds + 2 * lead
        load = Load(self._port, self._clients, seconds)
        flood = self._flood.submit(send, self._images, self._closed(FLOODED, seconds), load)
        time.sleep(lead)
        beside = self._ask(capacity)
        answered = flood.result().outcomes
        return Round(alone, beside, completed(answered, lead, seconds - lead))

    def _ask(self, capacity: float) -> Outcomes:
        due = poisson(self._share * capacity, self._seconds, self._rng)
        plan = open_loop(self._path(OTHER), due, len(self._images), self._rng)
        return self._load.send(plan, Load(self._port, CONNECTIONS)).outcomes

    def _closed(self, name: str, seconds: float) -> Plan:
        requests = int(seconds * MOST_PER_SECOND)
        return closed(self._path(name), requests, len(self._images), self._rng)

    def _path(self, name: str) -> str:
        return f"/models/{name}/classify?budget={self._budget}"


def goals(rounds: Sequence[Round]) -> list[Goal]:
    """Return the goals: the other model does not notice the flood much."""
    alone, beside = (
        float(np.median([each.percentile(99) for each in part]))
        for part in ([r.alone for r in rounds], [r.beside for r in rounds])
    )
    failed, asked = sum(each.failed for each in rounds), sum(len(r.beside) for r in rounds)
    text = f"p99 of the other model beside a flood at most {RATIO:g} x its own alone"
    figure = f"{1e3 * beside:.1f} ms, {beside / alone:.2f} x, medians of {len(rounds)} rounds"
    return [
        Goal(text, figure, beside <= RATIO * alone),
        Goal("no request for it fails", f"{failed} without an answer, {asked} beside the flood",
             failed == 0),
    ]  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description="Flood one of two models.")
    shipped = Path("deploy/bundles/cifar10-msdnet")
    option = parser.add_argument
    option("--bundle", type=Path, default=shipped, help="bundle of both models")
    option("--budget", default="full", help="budget of all requests")
    option("--rounds", type=int, default=5, help="rounds")
    option("--seconds", type=float, default=6.0, help="length of each measurement")
    option("--share", type=float, default=0.3, help="rate, as a share of saturation")
    option("--clients", type=int, default=CLIENTS, help="clients of the flood")
    option("--option", action="append", default=[], help="option of the server, as --workers=2")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all rounds, and return 1 if a goal is missed."""
    given = build_parser().parse_args(arguments)
    images = images_of(given.bundle)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for model in (FLOODED, OTHER):
            Versions(folder / "models", given.bundle, model).write(1)
        path = f"/models/{OTHER}/classify"
        server = server_of(folder / "models", folder / "key", path, *given.option)
        pool = ProcessPoolExecutor(1, get_context("spawn"), os.nice, (NICENESS,))
        with (
            pool as flood,
            generator(images) as load,
            started(server, images[0], folder / "logs") as running,
        ):
            measurement = Measurement(running, load, flood, images, given)
            measurement.capacity()  # warms up
            capacity = measurement.capacity()
            print(f"saturation alone: {capacity:.0f} answers/s")
            rounds = []
            for number in range(1, given.rounds + 1):
                rounds.append(measurement.round(capacity))
                print(f"round {number}: {rounds[-1]}", flush=True)
    return print_goals(goals(rounds))


if __name__ == "__main__":
    sys.exit(main())
