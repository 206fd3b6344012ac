"""Requests, batches, decisions and latencies for tests of the scheduler and its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.batch import Batch, Decision
from serving.engine.latency import Latency
from serving.engine.opinion import Opinion
from serving.engine.policy import Policy
from serving.engine.request import Call, Request
from serving.engine.scheduling.scheduler import MAX_WHOLE_SECONDS, Scheduler

STAGES = 4
NEVER_EARLY = (2.0, 2.0, 2.0, 0.0)
WHOLE_NETWORK = (MAX_WHOLE_SECONDS / 8, MAX_WHOLE_SECONDS)
LOOP = asyncio.new_event_loop()
LOOP.close()  # futures need a loop to belong to, not to run


def latency(
    one: float = 1.0, eight: float = 8.0, whole_network: Sequence[float] | None = None
) -> Latency:
    return Latency([1, 8], [[one, eight]] * STAGES, whole_network=whole_network)


def request(
    thresholds: Sequence[float] = (0.5, 0.5, 0.5, 0.0), at: float = 0.0, **options: Any
) -> Request:
    policy = Policy("p", "p", tuple(thresholds), **options)
    return Request(policy, 0, at, at, Call(asyncio.Future(loop=LOOP)))


def at_stage(request: Request, stage: int) -> Request:
    """Let a request have passed the exits before a stage, which its policy did not evaluate."""
    request.opinions += [None] * stage
    return request


def next_batch(scheduler: Scheduler, now: float = 0.0, **options: Any) -> Batch:
    """Return the next batch, which there must be."""
    batch = scheduler.schedule(now, **options)
    assert batch is not None
    return batch


def decision(batch: Batch, confidences: Sequence[float]) -> Decision:
    """Return the decision of a batch for these confidences."""
    rows = np.full((len(confidences), 2), 0.5, np.float32)
    exact: NDArray[np.float32] = np.array(confidences, np.float64)  # as Python's numbers
    return batch.decide(exact, rows)


def ran(
    scheduler: Scheduler, batch: Batch, confidences: Sequence[float], seconds: float = 1.0
) -> list[Request]:
    """Update the scheduler with a batch that ran. Return the requests that leave."""
    return scheduler.update(batch, decision(batch, confidences), seconds)


def opinion_of(opinion: Opinion | None) -> Opinion:
    """Return an opinion, which there must be."""
    assert opinion is not None
    return opinion


def waiting_at(scheduler: Scheduler, stage: int, count: int, **options: Any) -> list[Request]:
    """Queue new requests at a stage, as its batches do."""
    new = [request(**options) for _ in range(count)]
    for each in new:
        scheduler.add(at_stage(each, stage))
    return new
