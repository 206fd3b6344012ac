"""The scheduler compared with a model of it, over random steps: every request leaves once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.batch import Batch
from serving.engine.request import Request
from serving.engine.scheduling.scheduler import Scheduler
from serving.settings import Order
from tests.serving.scheduling import STAGES, WHOLE_NETWORK, latency, ran, request


class Simulation:
    """A scheduler, and requests with the confidences that they will get."""

    def __init__(self, max_batch: int, order: Order, *, rebatch: bool, whole_network: bool) -> None:
        times = latency(whole_network=WHOLE_NETWORK if whole_network else None)
        self.scheduler = Scheduler(times, max_batch, order, rebatch=rebatch)
        self.max_batch = max_batch
        self.confidences: dict[Request, tuple[float, ...]] = {}  # of every request, by stage
        self.queues: list[list[Request]] = [[] for _ in range(STAGES)]  # in the order of arrival
        self.running: list[Batch] = []
        self.finished: list[Request] = []
        self.dropped: set[Request] = set()

    def add(self, thresholds: tuple[float, ...], confidences: tuple[float, ...]) -> None:
        new = request((*thresholds, 0.0))
        self.confidences[new] = confidences
        self.queues[0].append(new)
        self.scheduler.add(new)

    def schedule(self, idle: int = 0) -> None:
        batch = self.scheduler.schedule(0.0, idle)
        if batch is None:
            assert not any(self.queues)
            return
        queue = self.queues[batch.stage]
        chosen = list(batch.requests)
        assert 0 < len(chosen) <= self.max_batch
        assert chosen == queue[: len(chosen)]
        evaluated = any(each.policy.asks[batch.stage] for each in chosen)
        assert batch.head == (evaluated or batch.whole_network)
        assert not self.dropped & set(chosen)
        del queue[: len(chosen)]
        self.running.append(batch)

    def land(self, which: int) -> None:
        batch = self.running.pop(which % len(self.running))
        exit_ = STAGES - 1 if batch.whole_network else batch.stage
        confidences = [self.confidences[each][exit_] for each in batch.requests]
        finished = ran(self.scheduler, batch, confidences)
        self.finished += finished
        for each in batch.requests:
            if each not in finished:
                self.queues[batch.stage + 1].append(each)

    def drop(self, which: int) -> None:
        chosen = list(self.confidences)[which % len(self.confidences)]
        if chosen in self.finished:
            assert not self.scheduler.drop(chosen)
            return
        queued = any(chosen in queue for queue in self.queues)
        assert self.scheduler.drop(chosen) == queued
        if queued:
            for queue in self.queues:
                if chosen in queue:
                    queue.remove(chosen)
            self.finished.append(chosen)
        self.dropped.add(chosen)

    def finish(self) -> None:
        while self.running or any(self.queues):
            self.schedule()
            while self.running:
                self.land(0)
        assert self.scheduler.schedule(0.0) is None
        assert self.scheduler.waiting == 0
        assert self.scheduler.backlog() == 0


unit = st.floats(0, 1)
operations = st.one_of(
    st.tuples(st.just("add"), st.tuples(*[st.floats(0, 2)] * 3), st.tuples(*[unit] * 4)),
    st.tuples(st.just("schedule"), st.integers(0, 3)),
    st.tuples(st.just("land"), st.integers(0, 10)),
    st.tuples(st.just("drop"), st.integers(0, 10)),
)


@given(
    st.integers(1, 5),
    st.sampled_from(["deepest", "fullest"]),
    st.booleans(),
    st.booleans(),
    st.lists(operations, max_size=60),
)
def test_every_request_leaves_once_at_the_right_exit(
    max_batch: int,
    order: Order,
    rebatch: bool,
    whole_network: bool,
    steps: list[tuple[Any, ...]],
) -> None:
    world = Simulation(max_batch, order, rebatch=rebatch, whole_network=whole_network)
    for name, *arguments in steps:
        if (name == "land" and not world.running) or (name == "drop" and not world.confidences):
            continue
        getattr(world, name)(*arguments)
        assert world.scheduler.waiting == sum(map(len, world.queues))
    world.finish()
    assert len(world.finished) == len(set(world.finished)) == len(world.confidences)
    for each, confidences in world.confidences.items():
        if each not in world.dropped:
            pairs = enumerate(zip(confidences, each.policy.thresholds, strict=True))
            first = next(k for k, (seen, threshold) in pairs if seen >= threshold)
            assert each.stage == first + 1
            evaluated = [threshold <= 1 for threshold in each.policy.thresholds[: first + 1]]
            assert [opinion is not None for opinion in each.opinions] == evaluated
