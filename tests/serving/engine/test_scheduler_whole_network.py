"""Batches that go through all stages at once: when they may, and what is learnt of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.latency import Latency
from serving.engine.scheduler import CALM, GAIN, LONGEST, Scheduler
from tests.serving.scheduling import NEVER_EARLY, STAGES, THROUGH, latency, ran, request, waiting_at

KINDS = {
    "full": {"thresholds": NEVER_EARLY},
    "medium": {},
    "explain": {"thresholds": NEVER_EARLY, "explain": True},
    "deadline": {"thresholds": NEVER_EARLY, "deadline": 30.0},
}
turns = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(["full", *KINDS])),
    st.tuples(st.just("schedule"), st.booleans(), st.integers(0, 2)),
    st.tuples(st.just("land"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("drop"), st.integers(0, 10)),
    st.tuples(st.just("tick"), st.floats(0.1, 1.5)),
)


class Turns:
    """Requests of all kinds, at their times, some of them under overload."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(latency(whole_network=THROUGH), 3)
        self.now, self.hurried = 0.0, -np.inf
        self.waiting, self.flying, self.left, self.all = [], [], [], []
        self.whole_network = set()

    def add(self, kind) -> None:
        new = request(at=self.now, **KINDS[kind])
        if kind == "deadline":
            self.hurried = self.now
        for each in (self.waiting, self.all):
            each.append(new)
        self.scheduler.add(new)

    def schedule(self, degraded, idle) -> None:
        expired = self.scheduler.expired(self.now)
        self.left += expired
        self.waiting = [each for each in self.waiting if each not in expired]
        batch = self.scheduler.schedule(self.now, idle, degraded=degraded)
        if batch is None:
            assert not self.waiting
            return
        calm = self.now >= self.hurried + CALM
        nobody_asks = not any(any(each.policy.asks[:-1]) for each in self.waiting[:3])
        hurry = any(each.policy.deadline for each in self.waiting)
        nobody_deeper = not any(each.stage for each in self.waiting)
        assert batch.whole_network == (
            not degraded and calm and nobody_asks and nobody_deeper and not hurry
        )
        if batch.whole_network:
            assert batch.stage == 0
            self.whole_network.update(batch.requests)
        self.waiting = [each for each in self.waiting if each not in batch.requests]
        self.flying.append(batch)

    def land(self, which, fails) -> None:
        if not self.flying:
            return
        batch = self.flying.pop(which % len(self.flying))
        if fails:
            self.left += self.scheduler.failed(batch)
            self.whole_network.difference_update(batch.requests)
            return
        left = ran(self.scheduler, batch, [0.1] * len(batch.requests))
        self.left += left
        self.waiting += [each for each in batch.requests if each not in left]

    def drop(self, which) -> None:
        if not self.all or (chosen := self.all[which % len(self.all)]) in self.left:
            return
        waited = self.scheduler.drop(chosen)
        assert waited == (chosen in self.waiting)
        if waited:
            self.waiting.remove(chosen)
            self.left.append(chosen)

    def tick(self, seconds) -> None:
        self.now += seconds


@given(st.lists(turns, max_size=60))
def test_a_batch_goes_through_where_nobody_asks_and_nobody_hurries(steps) -> None:
    world = Turns()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    while world.waiting or world.flying:
        world.schedule(degraded=False, idle=0)
        world.land(0, fails=False)
    assert sorted(map(id, world.left)) == sorted(map(id, world.all))
    assert world.scheduler._running == [0] * (STAGES + 1)
    for each in world.whole_network:
        if not each.ended:
            assert each.opinions[:-1] == [None] * (STAGES - 1)
            assert each.opinions[-1].confidence == 0.1


def whole_network(size=8):
    scheduler = Scheduler(latency(whole_network=THROUGH), 8)
    waiting_at(scheduler, 0, size, thresholds=NEVER_EARLY)
    return scheduler, scheduler.schedule(0.0)


@pytest.mark.parametrize("ends", ["expired", "drop"])
def test_for_a_while_after_a_deadline_nothing_goes_through(ends) -> None:
    """For another would have to wait for all stages, and could not be kept within one."""
    scheduler = Scheduler(latency(whole_network=THROUGH), 8)
    (hurried,) = waiting_at(scheduler, 0, 1, at=10.0, deadline=0.5)
    assert scheduler.expired(10.0) == [hurried] if ends == "expired" else scheduler.drop(hurried)
    for now, calm in ((10.0, False), (10.0 + CALM - 0.01, False), (10.0 + CALM, True)):
        waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
        batch = scheduler.schedule(now)
        assert batch.whole_network == calm
        scheduler.failed(batch)


def test_while_a_deadline_waits_however_long_nothing_goes_through() -> None:
    scheduler = Scheduler(latency(whole_network=THROUGH), 8)
    waiting_at(scheduler, 0, 16, thresholds=NEVER_EARLY)
    (patient,) = waiting_at(scheduler, 0, 1, deadline=1000.0)  # behind those of two batches
    assert not scheduler.schedule(100.0).whole_network
    assert scheduler.drop(patient)
    assert scheduler.schedule(100.0).whole_network


def test_batches_that_go_through_tell_of_their_own_time_alone() -> None:
    scheduler, batch = whole_network()
    assert batch.whole_network
    assert scheduler._running == [0] * STAGES + [8]  # no stage is to wait for survivors of it
    scheduler._survive = [0.5] * STAGES
    table, survive = scheduler.latency._tables, [*scheduler._survive]
    before = [[[*row] for row in rows] for rows in table]
    assert len(ran(scheduler, batch, [0.1] * 8, seconds=30.0)) == 8
    assert [[[*row] for row in rows] for rows in table] == before
    assert scheduler._survive[:-1] == [share + GAIN * (1 - share) for share in survive[:-1]]
    assert scheduler.latency.whole_network.time(0, 8) > THROUGH[1]


def test_idle_threads_share_what_goes_through_by_its_own_time() -> None:
    times = Latency([1, 8], [[1.0, 8.0]] * STAGES, whole_network=[LONGEST, LONGEST])
    scheduler = Scheduler(times, 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    assert len(scheduler.schedule(0.0, idle=1).requests) == 8
    waiting_at(scheduler, 0, 8)
    assert len(scheduler.schedule(0.0, idle=1).requests) == 4


@pytest.mark.parametrize(("one", "size"), [(LONGEST / 8, 8), (LONGEST / 3, 3), (LONGEST * 3, 1)])
def test_several_go_through_in_no_longer_than_others_may_wait(one, size) -> None:
    scheduler = Scheduler(latency(whole_network=(one, 8 * one)), 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    batch = scheduler.schedule(0.0)
    assert (batch.whole_network, len(batch.requests)) == (True, size)


def test_who_goes_through_may_hang_up_or_fail_as_anybody() -> None:
    scheduler, batch = whole_network(2)
    gone, there = batch.requests
    assert not scheduler.drop(gone)
    assert ran(scheduler, batch, [0.1, 0.1]) == [gone, there]
    assert (gone.opinions, there.stage) == ([], STAGES)
    assert not scheduler.drop(there)
    scheduler, batch = whole_network(2)
    assert scheduler.failed(batch) == list(batch.requests)
    assert scheduler._running == [0] * (STAGES + 1)
