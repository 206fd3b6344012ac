"""The scheduler against a simulation: whatever happens in whatever order, nobody is lost."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.policy import Policy
from serving.request import Opinion, Request
from serving.scheduler import Scheduler

STAGES = 4
PROBABILITIES = np.array([0.5, 0.5], np.float32)
LOOP = asyncio.new_event_loop()
LOOP.close()  # futures need a loop to belong to, not to run


def request(thresholds=(0.5, 0.5, 0.5, 0.0)):
    return Request(Policy("p", "p", tuple(thresholds)), 0, 0.0, 0.0, asyncio.Future(loop=LOOP))


def opinions(confidences):
    return [Opinion(confidence, PROBABILITIES) for confidence in confidences]


class Simulation:
    """Requests with the confidences that they will get, in the hands of a scheduler."""

    def __init__(self, max_batch):
        self.scheduler = Scheduler(STAGES, max_batch)
        self.max_batch = max_batch
        self.confidences = {}  # of every request, by stage
        self.arrivals = [[] for _ in range(STAGES)]  # who waits at each stage, in order
        self.flying = []
        self.left = []
        self.dropped = set()

    def add(self, thresholds, confidences):
        new = request((*thresholds, 0.0))
        self.confidences[new] = confidences
        self.arrivals[0].append(new)
        self.scheduler.add(new)

    def schedule(self):
        batch = self.scheduler.schedule()
        deepest = max((k for k in range(STAGES) if self.arrivals[k]), default=None)
        if batch is None:
            assert deepest is None
            return
        assert batch.stage == deepest
        queue = self.arrivals[deepest]
        assert list(batch.requests) == queue[: self.max_batch]
        assert not self.dropped & set(batch.requests)
        del queue[: self.max_batch]
        self.flying.append(batch)

    def land(self, which):
        batch = self.flying.pop(which % len(self.flying))
        given_ = [self.confidences[r][batch.stage] for r in batch.requests]
        left = self.scheduler.update(batch, opinions(given_))
        self.left += left
        for each in batch.requests:
            if each not in left:
                self.arrivals[batch.stage + 1].append(each)

    def drop(self, which):
        chosen = list(self.confidences)[which % len(self.confidences)]
        if chosen in self.left:
            assert not self.scheduler.drop(chosen)
            return
        waits = any(chosen in queue for queue in self.arrivals)
        assert self.scheduler.drop(chosen) == waits
        if waits:
            for queue in self.arrivals:
                if chosen in queue:
                    queue.remove(chosen)
            self.left.append(chosen)
        self.dropped.add(chosen)

    def finish(self):
        while self.flying or any(self.arrivals):
            self.schedule()
            while self.flying:
                self.land(0)
        assert self.scheduler.schedule() is None
        assert self.scheduler.waiting == 0


unit = st.floats(0, 1)
operations = st.one_of(
    st.tuples(st.just("add"), st.tuples(*[unit] * 3), st.tuples(*[unit] * 4)),
    st.tuples(st.just("schedule")),
    st.tuples(st.just("land"), st.integers(0, 10)),
    st.tuples(st.just("drop"), st.integers(0, 10)),
)


@given(max_batch=st.integers(1, 5), steps=st.lists(operations, max_size=60))
def test_every_request_leaves_once_at_the_right_exit(max_batch, steps):
    world = Simulation(max_batch)
    for name, *arguments in steps:
        if (name == "land" and not world.flying) or (name == "drop" and not world.confidences):
            continue
        getattr(world, name)(*arguments)
        assert world.scheduler.waiting == sum(map(len, world.arrivals))
    world.finish()
    assert len(world.left) == len(set(world.left)) == len(world.confidences)
    for each, confidences in world.confidences.items():
        if each not in world.dropped:
            pairs = enumerate(zip(confidences, each.policy.thresholds, strict=True))
            first = next(k for k, (seen, threshold) in pairs if seen >= threshold)
            assert each.stage == first + 1


def test_survivors_of_different_batches_run_on_together():
    scheduler = Scheduler(STAGES, 2)
    first = [request() for _ in range(4)]
    for each in first:
        scheduler.add(each)
    one, other = scheduler.schedule(), scheduler.schedule()
    assert scheduler.update(one, opinions([0.9, 0.1])) == [first[0]]
    assert scheduler.update(other, opinions([0.1, 0.9])) == [first[3]]
    merged = scheduler.schedule()
    assert (merged.stage, merged.requests) == (1, (first[1], first[2]))


def test_a_dropped_request_leaves_with_its_batch():
    scheduler = Scheduler(STAGES, 2)
    only = request()
    scheduler.add(only)
    batch = scheduler.schedule()
    assert not scheduler.drop(only)
    assert scheduler.update(batch, opinions([0.0])) == [only]
    assert scheduler.schedule() is None
