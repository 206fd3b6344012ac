"""Batches that run all stages at once: their conditions, and their effect on the latency model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.batch import Batch
from serving.engine.latency import Latency
from serving.engine.request import Request
from serving.engine.scheduling.scheduler import CALM, MAX_WHOLE_SECONDS, SURVIVAL_WEIGHT, Scheduler
from tests.serving.scheduling import (
    NEVER_EARLY,
    STAGES,
    WHOLE_NETWORK,
    latency,
    next_batch,
    opinion_of,
    ran,
    request,
    waiting_at,
)

KINDS: Mapping[str, Mapping[str, Any]] = {
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
        self.scheduler = Scheduler(latency(whole_network=WHOLE_NETWORK), 3)
        self.now, self.last_deadline = 0.0, -np.inf
        self.queued: list[Request] = []
        self.running: list[Batch] = []
        self.finished: list[Request] = []
        self.all: list[Request] = []
        self.whole_network: set[Request] = set()

    def add(self, kind: str) -> None:
        new = request(at=self.now, **KINDS[kind])
        if kind == "deadline":
            self.last_deadline = self.now
        for each in (self.queued, self.all):
            each.append(new)
        self.scheduler.add(new)

    def schedule(self, degraded: bool, idle: int) -> None:
        expired = self.scheduler.expired(self.now)
        self.finished += expired
        self.queued = [each for each in self.queued if each not in expired]
        batch = self.scheduler.schedule(self.now, idle, degraded=degraded)
        if batch is None:
            assert not self.queued
            return
        assert batch.whole_network == (not degraded and self.runs_whole_network())
        if batch.whole_network:
            assert batch.stage == 0
            self.whole_network.update(batch.requests)
        self.queued = [each for each in self.queued if each not in batch.requests]
        self.running.append(batch)

    def runs_whole_network(self) -> bool:
        """Return whether a whole network is to run, by the rule in plain words."""
        calm = self.now >= self.last_deadline + CALM
        last_exit_only = not any(any(each.policy.asks[:-1]) for each in self.queued[:3])
        deadlines = any(each.policy.deadline for each in self.queued)
        deeper = any(each.stage for each in self.queued)
        return calm and last_exit_only and not deadlines and not deeper

    def land(self, which: int, fails: bool) -> None:
        if not self.running:
            return
        batch = self.running.pop(which % len(self.running))
        if fails:
            self.finished += self.scheduler.failed(batch)
            self.whole_network.difference_update(batch.requests)
            return
        finished = ran(self.scheduler, batch, [0.1] * len(batch.requests))
        self.finished += finished
        self.queued += [each for each in batch.requests if each not in finished]

    def drop(self, which: int) -> None:
        if not self.all or (chosen := self.all[which % len(self.all)]) in self.finished:
            return
        queued = self.scheduler.drop(chosen)
        assert queued == (chosen in self.queued)
        if queued:
            self.queued.remove(chosen)
            self.finished.append(chosen)

    def tick(self, seconds: float) -> None:
        self.now += seconds


@given(st.lists(turns, max_size=60))
def test_a_batch_runs_all_stages_if_its_policies_evaluate_the_last_exit_only(
    steps: list[tuple[Any, ...]],
) -> None:
    world = Turns()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    while world.queued or world.running:
        world.schedule(degraded=False, idle=0)
        world.land(0, fails=False)
    assert sorted(map(id, world.finished)) == sorted(map(id, world.all))
    assert world.scheduler.running == [0] * (STAGES + 1)
    for each in world.whole_network:
        if not each.ended:
            assert each.opinions[:-1] == [None] * (STAGES - 1)
            assert opinion_of(each.opinions[-1]).confidence == 0.1


def whole_network(size: int = 8) -> tuple[Scheduler, Batch]:
    scheduler = Scheduler(latency(whole_network=WHOLE_NETWORK), 8)
    waiting_at(scheduler, 0, size, thresholds=NEVER_EARLY)
    return scheduler, next_batch(scheduler)


@pytest.mark.parametrize("ends", ["expired", "drop"])
def test_for_a_while_after_a_deadline_no_batch_runs_all_stages(ends: str) -> None:
    """The next request with a deadline would have to wait for all stages instead of one."""
    scheduler = Scheduler(latency(whole_network=WHOLE_NETWORK), 8)
    (urgent,) = waiting_at(scheduler, 0, 1, at=10.0, deadline=0.5)
    if ends == "expired":
        assert scheduler.expired(10.0) == [urgent]
    else:
        assert scheduler.drop(urgent)
    for now, calm in ((10.0, False), (10.0 + CALM - 0.01, False), (10.0 + CALM, True)):
        waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
        batch = next_batch(scheduler, now)
        assert batch.whole_network == calm
        scheduler.failed(batch)


def test_while_a_request_with_a_deadline_is_queued_no_batch_runs_all_stages() -> None:
    scheduler = Scheduler(latency(whole_network=WHOLE_NETWORK), 8)
    waiting_at(scheduler, 0, 16, thresholds=NEVER_EARLY)
    (relaxed,) = waiting_at(scheduler, 0, 1, deadline=1000.0)  # behind those of two batches
    assert not next_batch(scheduler, 100.0).whole_network
    assert scheduler.drop(relaxed)
    assert next_batch(scheduler, 100.0).whole_network


def test_a_whole_network_corrects_its_own_time_only() -> None:
    scheduler, batch = whole_network()
    assert batch.whole_network
    assert scheduler.running == [0] * STAGES + [8]  # no stage waits for survivors of it
    scheduler.survival[:] = [0.5] * STAGES
    sizes = [(stage, size, head) for stage in range(STAGES) for size in (1, 8) for head in (0, 1)]
    model, before = scheduler.latency, [*scheduler.survival]
    times = [model.time(stage, size, head=bool(head)) for stage, size, head in sizes]
    assert len(ran(scheduler, batch, [0.1] * 8, seconds=30.0)) == 8
    assert [model.time(stage, size, head=bool(head)) for stage, size, head in sizes] == times
    expected = [rate + SURVIVAL_WEIGHT * (1 - rate) for rate in before[:-1]]
    assert scheduler.survival[:-1] == expected
    assert model.whole_network is not None
    assert model.whole_network.time(0, 8) > WHOLE_NETWORK[1]


def test_a_whole_network_is_split_for_idle_threads_by_its_own_time() -> None:
    seconds = [MAX_WHOLE_SECONDS, MAX_WHOLE_SECONDS]
    scheduler = Scheduler(Latency([1, 8], [[1.0, 8.0]] * STAGES, whole_network=seconds), 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    assert len(next_batch(scheduler, idle=1).requests) == 8
    waiting_at(scheduler, 0, 8)
    assert len(next_batch(scheduler, idle=1).requests) == 4


@pytest.mark.parametrize(
    ("one", "size"),
    [(MAX_WHOLE_SECONDS / 8, 8), (MAX_WHOLE_SECONDS / 3, 3), (MAX_WHOLE_SECONDS * 3, 1)],
)
def test_a_whole_network_of_several_requests_takes_no_longer_than_others_can_wait(
    one: float, size: int
) -> None:
    scheduler = Scheduler(latency(whole_network=(one, 8 * one)), 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    batch = next_batch(scheduler)
    assert (batch.whole_network, len(batch.requests)) == (True, size)


def test_requests_in_a_whole_network_can_be_dropped_or_fail() -> None:
    scheduler, batch = whole_network(2)
    dropped, other = batch.requests
    assert not scheduler.drop(dropped)
    assert ran(scheduler, batch, [0.1, 0.1]) == [dropped, other]
    assert (dropped.opinions, other.stage) == ([], STAGES)
    assert not scheduler.drop(other)
    scheduler, batch = whole_network(2)
    assert scheduler.failed(batch) == list(batch.requests)
    assert scheduler.running == [0] * (STAGES + 1)


@pytest.mark.parametrize("idle", [0, 1])
def test_the_last_network_of_several_runs_all_its_stages_at_once(idle: int) -> None:
    """Its first stage is not stage 0, and its times are those of one stage."""
    model = latency(whole_network=WHOLE_NETWORK)
    scheduler = Scheduler(model, 8, firsts=(0, 1))
    requests = [request(NEVER_EARLY) for _ in range(8)]
    for each in requests:
        scheduler.add(each)
    batch = next_batch(scheduler, idle=idle)
    assert (batch.stage, batch.whole_network, len(batch.requests)) == (1, True, 8 // (1 + idle))
    assert ran(scheduler, batch, [0.1] * len(batch.requests)) == [*batch.requests]
    assert [len(each.opinions) for each in batch.requests] == [STAGES] * len(batch.requests)
