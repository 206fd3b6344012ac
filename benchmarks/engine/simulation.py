"""A server in virtual time: the real scheduler, stage times from a table, requests by the thousand.

Nothing is run and no clock is read, so that an hour of load takes seconds and gives the same
figures again.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.request import Answer, Batch, Call, Request
from serving.engine.scheduler import Scheduler

_LOOP = asyncio.new_event_loop()
_LOOP.close()  # futures need a loop to belong to, not to run
NOBODY = asyncio.Future[list[Answer]](loop=_LOOP)
ROW = np.ones(1, np.float32)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes at `time` (seconds), and will leave at the exit of `stage` (from 0)."""

    time: float
    stage: int
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """A request that left at `time`, at the exit of `stage`; -1: before the first."""

    arrival: Arrival
    time: float
    stage: int
    expired: bool

    @property
    def seconds(self) -> float:
        """From its arrival."""
        return self.time - self.arrival.time


@dataclass(slots=True)
class Ran:
    """What a simulation gives: who left, in their order, and the size of every batch."""

    left: list[Left] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    end: float = 0.0

    @property
    def throughput(self) -> float:
        """Answers a second, from the start to the last."""
        return len(self.left) / self.end

    def quantile(self, q: float) -> float:
        """Of the seconds from arrival to answer."""
        return float(np.quantile([each.seconds for each in self.left], q))


@dataclass(slots=True)
class Server:
    """`threads` that run what a scheduler gives them; `Scheduler.expired` keeps the deadlines."""

    scheduler: Scheduler
    times: Latency
    threads: int
    overhead: float = 0.0
    ran: Ran = field(default_factory=Ran)
    _events: list[tuple[float, int, object]] = field(default_factory=list)
    _serial: int = 0
    _busy: int = 0
    _arrivals: dict[Request, Arrival] = field(default_factory=dict)
    then: Callable[[float], Arrival | None] = lambda _: None

    def run(self, arrivals: Sequence[Arrival]) -> Ran:
        """Serve all arrivals, and those that `then` gives for each that leaves."""
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
        self.ran.end = max(each.time for each in self.ran.left)
        return self.ran

    def _at(self, time: float, event: object) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time, self._serial, event))

    def _arrive(self, now: float, arrival: Arrival) -> None:
        thresholds = (0.5,) * (self.times.stages - 1) + (0.0,)
        policy = Policy("p", "p", thresholds, arrival.deadline)
        request = Request(policy, 0, now, now, Call(NOBODY))
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
            self.ran.batches.append((batch.stage, len(batch.requests)))
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
        self.ran.left.append(Left(arrival, now, request.stage - 1, expired))
        if (following := self.then(now)) is not None:
            self._at(following.time, following)


def naive(arrivals: Sequence[Arrival], times: Latency, threads: int, overhead: float = 0.0) -> Ran:
    """First come, first served, alone, through to the exit."""
    free = [0.0] * threads
    ran = Ran()
    for arrival in sorted(arrivals, key=lambda each: each.time):
        path = range(arrival.stage + 1)
        seconds = sum(overhead + times.time(stage, 1) for stage in path)
        end = max(arrival.time, heapq.heappop(free)) + seconds
        heapq.heappush(free, end)
        ran.batches += [(stage, 1) for stage in path]
        ran.left.append(Left(arrival, end, arrival.stage, expired=False))
    ran.end = max(each.time for each in ran.left)
    return ran


def limit(
    arrivals: Sequence[Arrival], times: Latency, threads: int, max_batch: int, overhead: float = 0.0
) -> float:
    """Answers a second that no schedule exceeds: every stage always at its best batch size."""
    sizes = range(1, max_batch + 1)
    best = [
        min((overhead + times.time(stage, size)) / size for size in sizes)
        for stage in range(times.stages)
    ]
    return threads * len(arrivals) / sum(sum(best[: each.stage + 1]) for each in arrivals)


def poisson(
    rate: float, count: int, shares: Sequence[float], seed: int, deadline: float | None = None
) -> list[Arrival]:
    """Open loop: `count` requests at `rate` a second, leaving at exits as `shares` says."""
    rng = np.random.default_rng(seed)
    times = rng.exponential(1 / rate, count).cumsum().tolist()
    stages = rng.choice(len(shares), count, p=shares).tolist()
    pairs = zip(times, stages, strict=True)
    return [Arrival(time, stage, deadline) for time, stage in pairs]


def closed(server: Server, clients: int, count: int, shares: Sequence[float], seed: int) -> Ran:
    """Closed loop: each client sends its next request when the last one is answered."""
    stages = iter(np.random.default_rng(seed).choice(len(shares), count, p=shares).tolist())

    def following(now: float) -> Arrival | None:
        stage = next(stages, None)
        return None if stage is None else Arrival(now, stage)

    server.then = following
    return server.run([Arrival(0.0, next(stages)) for _ in range(clients)])
