"""Simulate a server in virtual time: the real scheduler, with stage times from a table.

No stage is run and no clock is read. An hour of load takes seconds, and the figures are
reproducible.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.engine.batch import Batch
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.request import Answer, Call, Request
from serving.engine.scheduling.scheduler import Scheduler

_LOOP = asyncio.new_event_loop()
_LOOP.close()  # a future needs a loop, but not a running one
UNUSED_FUTURE = asyncio.Future[list[Answer]](loop=_LOOP)
ROW = np.ones(1, np.float32)
OVERHEAD = 0.15e-3  # seconds of Python for each batch


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that arrives at `time` (seconds) and leaves at the exit of `stage` (from 0)."""

    time: float
    stage: int
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Departure:
    """A request that left at `time`, at the exit of `stage`, or -1 before the first exit."""

    arrival: Arrival
    time: float
    stage: int
    expired: bool

    @property
    def seconds(self) -> float:
        """Return the seconds from arrival to departure."""
        return self.time - self.arrival.time


@dataclass(slots=True)
class Result:
    """The result of a simulation: departures in order, and stage and size of every batch."""

    departures: list[Departure] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    end: float = 0.0

    @property
    def throughput(self) -> float:
        """Return the answers per second, from the start to the last answer."""
        return len(self.departures) / self.end

    def quantile(self, q: float) -> float:
        """Return a quantile of the latency, in seconds."""
        return float(np.quantile([each.seconds for each in self.departures], q))


@dataclass(slots=True)
class Server:
    """Stage threads that run the batches of a scheduler, which enforces the deadlines.

    Attributes:
        scheduler: The real scheduler.
        times: Seconds of each stage by batch size.
        threads: Number of stage threads.
        overhead: Seconds of overhead for each batch.
        result: Departures and batches.
        next_arrival: Function from the time of a departure to the arrival that follows it.
    """

    scheduler: Scheduler
    times: Latency
    threads: int
    overhead: float = 0.0
    result: Result = field(default_factory=Result)
    next_arrival: Callable[[float], Arrival | None] = lambda _: None
    _events: list[tuple[float, int, object]] = field(default_factory=list)
    _serial: int = 0
    _busy: int = 0
    _arrivals: dict[Request, Arrival] = field(default_factory=dict)

    def run(self, arrivals: Sequence[Arrival]) -> Result:
        """Serve all arrivals, and those that `next_arrival` returns for each departure."""
        for arrival in arrivals:
            self._at(arrival.time, arrival)
        while self._events:
            now, _, event = heapq.heappop(self._events)
            if isinstance(event, Arrival):
                self._arrive(now, event)
            else:
                assert isinstance(event, tuple)
                self._end(now, *event)
            if not (self._events and self._events[0][0] == now):
                self._start(now)
        self.result.end = max(each.time for each in self.result.departures)
        return self.result

    def _at(self, time: float, event: object) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time, self._serial, event))

    def _arrive(self, now: float, arrival: Arrival) -> None:
        thresholds = (0.5,) * (self.times.stages - 1) + (0.0,)
        policy = Policy("p", "p", thresholds, arrival.deadline)
        request = Request(policy, 0, now, now, Call(UNUSED_FUTURE))
        self._arrivals[request] = arrival
        self.scheduler.add(request)

    def _start(self, now: float) -> None:
        for request in self.scheduler.expired(now):
            self._leave(request, now, expired=True)
        while self._busy < self.threads:
            batch = self.scheduler.schedule(now, self.threads - self._busy - 1)
            if batch is None:
                return
            self._busy += 1
            self.result.batches.append((batch.stage, len(batch.requests)))
            seconds = self.overhead + self.times.time(batch.stage, len(batch.requests))
            self._at(now + seconds, (batch, seconds))

    def _end(self, now: float, batch: Batch, seconds: float) -> None:
        self._busy -= 1
        stages = np.array([self._arrivals[request].stage for request in batch.requests])
        confidence: NDArray[np.float32] = (stages <= batch.stage).astype(np.float32)
        decision = batch.decide(confidence, np.broadcast_to(ROW, (len(stages), 1)))
        for request in self.scheduler.update(batch, decision, seconds):
            self._leave(request, now, expired=False)

    def _leave(self, request: Request, now: float, *, expired: bool) -> None:
        arrival = self._arrivals.pop(request)
        self.result.departures.append(Departure(arrival, now, request.stage - 1, expired))
        if (following := self.next_arrival(now)) is not None:
            self._at(following.time, following)


def run_naive(
    arrivals: Sequence[Arrival], times: Latency, threads: int, overhead: float = 0.0
) -> Result:
    """Run each request alone to its exit, first come, first served."""
    free = [0.0] * threads
    result = Result()
    for arrival in sorted(arrivals, key=lambda each: each.time):
        path = range(arrival.stage + 1)
        seconds = sum(overhead + times.time(stage, 1) for stage in path)
        end = max(arrival.time, heapq.heappop(free)) + seconds
        heapq.heappush(free, end)
        result.batches += [(stage, 1) for stage in path]
        result.departures.append(Departure(arrival, end, arrival.stage, expired=False))
    result.end = max(each.time for each in result.departures)
    return result


def max_throughput(
    arrivals: Sequence[Arrival], times: Latency, threads: int, max_batch: int, overhead: float = 0.0
) -> float:
    """Return an upper bound of answers per second: every stage always at its best batch size."""
    sizes = range(1, max_batch + 1)
    best = [
        min((overhead + times.time(stage, size)) / size for size in sizes)
        for stage in range(times.stages)
    ]
    return threads * len(arrivals) / sum(sum(best[: each.stage + 1]) for each in arrivals)


def poisson_arrivals(
    rate: float, count: int, shares: Sequence[float], seed: int, deadline: float | None = None
) -> list[Arrival]:
    """Draw `count` arrivals of an open loop at `rate` per second, with these exit shares."""
    rng = np.random.default_rng(seed)
    times = rng.exponential(1 / rate, count).cumsum().tolist()
    stages = rng.choice(len(shares), count, p=shares).tolist()
    pairs = zip(times, stages, strict=True)
    return [Arrival(time, stage, deadline) for time, stage in pairs]


def run_closed_loop(
    server: Server, clients: int, count: int, shares: Sequence[float], seed: int
) -> Result:
    """Run clients that send their next request when the previous one is answered."""
    stages = iter(np.random.default_rng(seed).choice(len(shares), count, p=shares).tolist())

    def following(now: float) -> Arrival | None:
        stage = next(stages, None)
        return None if stage is None else Arrival(now, stage)

    server.next_arrival = following
    return server.run([Arrival(0.0, next(stages)) for _ in range(clients)])
