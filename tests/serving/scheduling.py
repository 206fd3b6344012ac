"""What tests of the scheduler and its parts build on: requests, batches judged, latencies."""

import asyncio

import numpy as np

from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.request import Call, Request
from serving.engine.scheduler import LONGEST

STAGES = 4
NEVER_EARLY = (2.0, 2.0, 2.0, 0.0)
THROUGH = (LONGEST / 8, LONGEST)
LOOP = asyncio.new_event_loop()
LOOP.close()  # futures need a loop to belong to, not to run


def latency(one=1.0, eight=8.0, whole_network=None):
    return Latency([1, 8], [[one, eight]] * STAGES, whole_network=whole_network)


def request(thresholds=(0.5, 0.5, 0.5, 0.0), at=0.0, **options):
    policy = Policy("p", "p", tuple(thresholds), **options)
    return Request(policy, 0, at, at, Call(asyncio.Future(loop=LOOP)))


def judged(batch, confidences):
    rows = np.full((len(confidences), 2), 0.5, np.float32)
    return batch.decide(np.array(confidences, np.float64), rows)


def ran(scheduler, batch, confidences, seconds=1.0):
    return scheduler.update(batch, judged(batch, confidences), seconds)


def waiting_at(scheduler, stage, count, **options):
    """Requests that come to wait at a stage, as its batches bring them there."""
    new = [request(**options) for _ in range(count)]
    for each in new:
        each.opinions += [None] * stage
        scheduler.add(each)
    return new
