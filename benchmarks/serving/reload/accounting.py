"""Account for random requests over three models that change, by model and version.

    python -m benchmarks.serving.reload.accounting --calls 20000

The requests have random budgets, versions and deadlines. Some ask for versions that are not
loaded, some clients hang up, and bursts are partly refused. Meanwhile new versions are loaded,
kept versions answer again, canaries begin and end, and corrupt versions fail to load. What the
clients saw of each model and version must equal the metrics. Odd versions are of one bundle and
even ones of another. Each answer must equal an evaluation of the version that it names. Exit
status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.client import counters
from benchmarks.goals import print_goals
from benchmarks.serving.accounting import PATIENCE
from benchmarks.serving.mixture import BETWEEN, Query, all_queries, random_plan
from benchmarks.serving.reload.account import Account, Reference, goals, read_reference
from benchmarks.serving.reload.parts import (
    Changes,
    Model,
    change_under_load,
    new_models,
    plan_part,
)
from benchmarks.serving.reload.subject import KEY, images_of, server_of
from benchmarks.serving.reload.tally import (
    NAMES,
    grown,
    named,
    read_named,
    total,
)
from benchmarks.serving.rounds import CLIENTS, CONNECTIONS
from benchmarks.serving.rounds import MANY as MOST
from benchmarks.serving.servers.processes import Running, started
from offramp.load.connection import HOST
from offramp.load.outcomes import closed, completed
from offramp.load.process import Generator, generator
from offramp.load.sender import Load
from serving.observe.metrics import REFRESH_SECONDS

SLOTS = 64  # of each model and worker; fewer than a burst has requests
WARM_UP = 3.0  # seconds


def settled(port: int, age: float) -> dict[str, float]:
    """Return the metrics once no slot is in use, or after PATIENCE.

    Args:
        port: Port of the server.
        age: Greatest age of a gauge, in seconds.
    """
    until = time.monotonic() + PATIENCE
    while True:
        time.sleep(age)
        samples = counters(f"http://{HOST}:{port}")
        if not total(samples, "offramp_slots_in_use") or time.monotonic() > until:
            return samples


class Run:
    """Sends the parts to a server, and adds them to the account.

    Args:
        running: The server.
        load: The load generator.
        references: The bundles of odd and of even versions.
        images: Number of images.
        age: Greatest age of a gauge of the server, in seconds.
        rng: Random numbers.

    Attributes:
        account: The sums of all parts so far.
        changes: The changes so far.
    """

    def __init__(
        self,
        running: Running,
        load: Generator,
        references: Sequence[Reference],
        images: int,
        age: float,
        rng: np.random.Generator,
    ) -> None:
        self.account = Account()
        self.changes = Changes(running.port, KEY)
        self._running, self._load, self._rng = running, load, rng
        self._references, self._images, self._age = references, images, age
        self._queries = queries_of(references)

    def measure_rate(self, seconds: float) -> float:
        """Return the answers per second of one model at full depth, without changes."""
        plan = closed(f"/models/{NAMES[0]}/classify?budget=full", MOST, self._images, self._rng)
        report = self._load.send(plan, Load(self._running.port, CLIENTS, seconds))
        return completed(report.outcomes, seconds / 2, seconds)

    def part(self, models: Sequence[Model], reloaded: Model, calls: int, rate: float) -> None:
        """Send random requests while models change."""
        plan = random_plan(self._queries, calls, self._images, rate, self._rng)
        plan, asked = plan_part(models, reloaded, self._queries, plan, self._rng)
        before = settled(self._running.port, self._age)
        sent = self._load.start(plan, Load(self._running.port, CONNECTIONS), read_named)
        change_under_load(self.changes, models, reloaded)
        outcomes = sent.result().outcomes
        after = settled(self._running.port, self._age)
        account = self.account
        account.add(named(outcomes), asked, self._references)
        account.server += grown(before, after)
        account.unknown += int(unknown_in(after) - unknown_in(before))
        account.held += [
            total(after, f"offramp_{name}") for name in ("slots_in_use", "queue_depth")
        ]
        account.memory.append(self._running.usage().memory)


def queries_of(references: Sequence[Reference]) -> list[Query]:
    """Return the queries that all bundles know."""
    first, *others = (all_queries(each.manifest) for each in references)
    return [query for query in first if all(query in other for other in others)]


def unknown_in(samples: dict[str, float]) -> float:
    """Return the number of calls for models or versions that were not loaded."""
    return total(samples, "offramp_problems_total", type="unknown-model")


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description="Account for requests over models that change.")
    shipped = Path("deploy/bundles")
    option = parser.add_argument
    option("--bundle", type=Path, default=shipped / "cifar10-msdnet", help="of odd versions")
    option("--other", type=Path, default=shipped / "cifar10-msdnet-int8", help="of even versions")
    option("--calls", type=int, default=20_000, help="number of requests")
    option("--part", type=int, default=BETWEEN, help="requests of a part, with changes in each")
    option("--rate", type=float, help="requests per second (default: measured)")
    option("--workers", type=int, default=2, help="worker processes")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, and return 1 if a goal is missed."""
    given = build_parser().parse_args(arguments)
    files, rng = images_of(given.bundle), np.random.default_rng(0)
    references = [read_reference(each, files) for each in (given.bundle, given.other)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        models = new_models(folder / "models", (given.bundle, given.other))
        options = (f"--workers={given.workers}", "--threads=1", f"--slots={SLOTS}")
        path = f"/models/{NAMES[0]}/classify"
        server = server_of(folder / "models", folder / "key", path, *options)
        with generator(files) as load, started(server, files[0], folder / "logs") as running:
            age = 2 * REFRESH_SECONDS if given.workers > 1 else 0.0
            run = Run(running, load, references, len(files), age, rng)
            for model in models:
                run.changes.load(model)  # so that each has a kept version
            rate = given.rate or run.measure_rate(WARM_UP)
            for number in range(max(1, given.calls // given.part)):
                run.part(models, models[number % len(models)], given.part, rate)
    return print_goals(goals(run.account, run.changes))


if __name__ == "__main__":
    sys.exit(main())
