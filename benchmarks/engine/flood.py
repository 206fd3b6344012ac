"""Simulate two models that take turns on the cores, in virtual time. One of them is flooded.

    python -m benchmarks.engine.flood

The real schedulers and the real order of turns decide. No stage is run and no clock is read, so the
figures do not depend on the machine. Times are about those of a small network: 3 ms for an image.
Between two batches a thread runs Python code, and sometimes loses its core, as on a busy machine.
Clients in a closed loop flood one model. Requests for the other come at random times, at 30 % of
the rate at which it saturates. Exit status 1 if the p99 of the latter is more than twice its own
without the flood.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import numpy as np

from benchmarks.engine.simulation import OVERHEAD, ROW, UNUSED_FUTURE, poisson_arrivals
from benchmarks.goals import Goal, print_goals
from serving.engine.batch import Batch
from serving.engine.batch_run import predicted_seconds
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.request import Call, Request
from serving.engine.scheduling.scheduler import Scheduler
from serving.engine.scheduling.turn_order import TurnOrder, Use

CORES, CLIENTS, MAX_BATCH = 2, 64, 16
ROUND_TRIP = 1e-3  # seconds from an answer to the next request of a client
RATE = 270  # requests per second for the other model
PYTHON = 0.5e-3  # seconds of a thread between two batches
LOST, LOSES = 4e-3, 0.1  # seconds without a core between two batches, and how often
RATIO = 2.0  # most p99 beside the flood, relative to that alone
FULL = Policy("full", "full", (2.0, 2.0, 2.0, 0.0))
GROWTH = (1.0, 1.75, 3.2, 6.0, 11.5)  # of the time with the batch: 1, 2, 4, 8, 16
TIMES = Latency(
    [1, 2, 4, 8, 16],
    [[0.75e-3 * each for each in GROWTH]] * 4,
    whole_network=[2.9e-3 * each for each in GROWTH],
)
# A request comes, a thread looks for its next batch, or a batch of these seconds ends.
Event = Literal["request", "look"] | tuple[Batch, float]


@dataclass(slots=True, eq=False)
class Model:
    """A model: its scheduler, its threads, and the seconds of its answers.

    Attributes:
        times: Seconds of its stages.
        clients: Number of clients in a closed loop.
        idle: Threads without a batch.
        chosen: Batches that wait for a turn.
        seconds: Latency of each answer.
    """

    times: Latency
    clients: int = 0
    idle: int = CORES
    chosen: list[Batch] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    use: Use = field(init=False)
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        """Make a scheduler, which learns times of its own."""
        self.use = Use(self.times.alone())
        self.scheduler = Scheduler(deepcopy(self.times), MAX_BATCH)


class Process:
    """A process with some models, in virtual time."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = models
        self._order = TurnOrder(CORES)
        self._events: list[tuple[float, int, Model, Event]] = []
        self._number = count()
        self._rng = np.random.default_rng(0)

    def run(self, seconds: float, arrivals: Sequence[tuple[float, Model]] = ()) -> None:
        """Serve requests at their times, and those of clients in a closed loop."""
        for time, model in arrivals:
            self._at(time, model)
        for model in self._models:
            for client in range(model.clients):
                self._at(client * ROUND_TRIP / CLIENTS, model)
        while self._events and self._events[0][0] < seconds:
            now, _, model, event = heapq.heappop(self._events)
            if event == "request":
                model.scheduler.add(Request(FULL, 0, now, now, Call(UNUSED_FUTURE)))
            elif event == "look":
                model.idle += 1
            else:
                self._end(now, model, *event)
            self._choose(now)
            if event == "look":
                self._order.looked(model.use, now)
            self._start(now)

    def _at(self, time: float, model: Model, event: Event = "request") -> None:
        heapq.heappush(self._events, (time, next(self._number), model, event))

    def _choose(self, now: float) -> None:
        """Let idle threads choose batches, which wait for a turn."""
        for model in self._models:
            while model.idle and model.scheduler.waiting:
                longest = self._order.longest(model.use, now)
                batch = model.scheduler.schedule(now, model.idle - 1, longest=longest)
                assert batch is not None
                model.idle -= 1
                model.chosen.append(batch)
                self._order.wait(model.use, now)

    def _start(self, now: float) -> None:
        """Start all batches that can start."""
        while ready := [
            each for each in self._models if each.chosen and self._order.can_start(each.use, now)
        ]:
            model = ready[0]
            batch = model.chosen.pop(0)
            self._order.start(model.use, now)
            seconds = OVERHEAD + predicted_seconds(batch, model.times)
            self._at(now + seconds, model, (batch, seconds))

    def _end(self, now: float, model: Model, batch: Batch, seconds: float) -> None:
        self._order.end(model.use, seconds, now)
        looks = now + PYTHON + (LOST if self._rng.random() < LOSES else 0.0)
        self._at(looks, model, "look")
        rows = len(batch.requests)
        decision = batch.decide(np.zeros(rows, np.float32), np.broadcast_to(ROW, (rows, 1)))
        for request in model.scheduler.update(batch, decision, seconds):
            model.seconds.append(now - request.arrived)
            if model.clients:
                self._at(looks + ROUND_TRIP, model)


def simulate(seconds: float, clients: int, rate: float, seed: int = 0) -> tuple[Model, Model]:
    """Serve a flood of `clients` and requests at a rate. Return both models."""
    flooded, other = Model(TIMES, clients), Model(TIMES)
    arrivals = poisson_arrivals(rate, int(rate * seconds), (1.0,), seed) if rate else []
    Process([flooded, other]).run(seconds, [(each.time, other) for each in arrivals])
    return flooded, other


def p99(model: Model) -> float:
    """Return the 99th percentile of the latency, in seconds."""
    return float(np.percentile(model.seconds, 99))


def main(seconds: float = 20.0) -> int:
    """Print both latencies, and return 1 if the flood is noticed too much."""
    (_, alone), (flood, _) = simulate(seconds, 0, RATE), simulate(seconds, CLIENTS, 0)
    flooded, beside = simulate(seconds, CLIENTS, RATE)
    each, all_cores = len(flooded.seconds) / seconds, len(flood.seconds) / seconds
    print(f"flood: {each:.0f} answers/s, {all_cores:.0f} while the other model has no requests")
    ratio = p99(beside) / p99(alone)
    text = f"p99 of the other model beside a flood at most {RATIO:g} x its own alone"
    return print_goals([Goal(text, f"{1e3 * p99(beside):.1f} ms, {ratio:.2f} x", ratio <= RATIO)])


if __name__ == "__main__":
    sys.exit(main())
