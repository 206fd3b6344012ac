"""The scheduler with real requests, one step at a time; simulated in test_schedules.py."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.latency import Latency
from serving.policy import Policy
from serving.request import Call, Request
from serving.scheduler import CALM, GAIN, LONGEST, PASSES, Scheduler

STAGES = 4
NEVER_EARLY = (2.0, 2.0, 2.0, 0.0)
THROUGH = (LONGEST / 8, LONGEST)
LOOP = asyncio.new_event_loop()
LOOP.close()  # futures need a loop to belong to, not to run


def latency(one=1.0, eight=8.0, through=None):
    return Latency([1, 8], [[one, eight]] * STAGES, through=through)


def request(thresholds=(0.5, 0.5, 0.5, 0.0), at=0.0, **options):
    policy = Policy("p", "p", tuple(thresholds), **options)
    return Request(policy, 0, at, at, Call(asyncio.Future(loop=LOOP)))


def judged(batch, confidences):
    rows = np.full((len(confidences), 2), 0.5, np.float32)
    return batch.judge(np.array(confidences, np.float64), rows)


def ran(scheduler, batch, confidences, seconds=1.0):
    return scheduler.update(batch, judged(batch, confidences), seconds)


class Simulation:
    """Requests with the confidences that they will get, in the hands of a scheduler."""

    def __init__(self, max_batch, order, rebatch, through):
        times = latency(through=THROUGH if through else None)
        self.scheduler = Scheduler(times, max_batch, order, rebatch=rebatch)
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

    def schedule(self, idle=0):
        batch = self.scheduler.schedule(0.0, idle)
        if batch is None:
            assert not any(self.arrivals)
            return
        queue = self.arrivals[batch.stage]
        chosen = list(batch.requests)
        assert 0 < len(chosen) <= self.max_batch
        assert chosen == queue[: len(chosen)]
        asked = any(each.policy.asks[batch.stage] for each in chosen)
        assert batch.head == (asked or batch.through)
        assert not self.dropped & set(chosen)
        del queue[: len(chosen)]
        self.flying.append(batch)

    def land(self, which):
        batch = self.flying.pop(which % len(self.flying))
        exit_ = STAGES - 1 if batch.through else batch.stage
        left = ran(self.scheduler, batch, [self.confidences[r][exit_] for r in batch.requests])
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
def test_every_request_leaves_once_at_the_right_exit(max_batch, order, rebatch, through, steps):
    world = Simulation(max_batch, order, rebatch, through)
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
            asked = [threshold <= 1 for threshold in each.policy.thresholds[: first + 1]]
            assert [opinion is not None for opinion in each.opinions] == asked


def waiting_at(scheduler, stage, count, **options):
    """Requests that come to wait at a stage, as its batches bring them there."""
    new = [request(**options) for _ in range(count)]
    for each in new:
        each.opinions += [None] * stage
        scheduler.add(each)
    return new


def test_deepest_first_and_survivors_of_different_batches_run_on_together():
    scheduler = Scheduler(latency(), 2)
    first = waiting_at(scheduler, 0, 4)
    one, other = scheduler.schedule(0.0), scheduler.schedule(0.0)
    assert ran(scheduler, one, [0.9, 0.1]) == [first[0]]
    assert ran(scheduler, other, [0.1, 0.9]) == [first[3]]
    waiting_at(scheduler, 0, 2)
    merged = scheduler.schedule(0.0)
    assert (merged.stage, merged.requests) == (1, (first[1], first[2]))


def test_fullest_first():
    scheduler = Scheduler(latency(), 4, "fullest")
    waiting_at(scheduler, 0, 9)
    waiting_at(scheduler, 1, 3)
    waiting_at(scheduler, 2, 3)
    assert [scheduler.schedule(0.0).stage for _ in range(5)] == [0, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("times", "rebatch", "stage"),
    [((1.0, 1.0), True, 0), ((1.0, 1.0), False, 1), ((1.0, 8.0), True, 1), ((1.0, 6.5), True, 1)],
)
def test_a_stage_waits_for_survivors_only_where_the_times_say_that_it_pays(times, rebatch, stage):
    scheduler = Scheduler(latency(*times), 8, rebatch=rebatch)
    waiting_at(scheduler, 1, 2)
    waiting_at(scheduler, 0, 8)
    assert scheduler.schedule(0.0).stage == stage


def test_a_batch_that_is_full_waits_for_nobody():
    scheduler = Scheduler(latency(1.0, 1.0), 8)
    waiting_at(scheduler, 1, 8)
    waiting_at(scheduler, 0, 8)
    assert scheduler.schedule(0.0).stage == 1


@pytest.mark.parametrize(("leaving", "stage"), [(True, 0), (False, 1)])
def test_those_who_leave_sooner_may_go_first(leaving, stage):
    """Batches gain nothing here, but stage 2 takes three times as long as stage 1."""
    scheduler = Scheduler(Latency([1, 8], [[1.0, 8.0], *[[3.0, 24.0]] * 3]), 8)
    for _ in range(100):
        waiting_at(scheduler, 0, 4)
        left = ran(scheduler, scheduler.schedule(0.0), [0.9 if leaving else 0.1] * 4, 4.0)
        for stayed in set(scheduler._waiting[1]):
            scheduler.drop(stayed)
        assert len(left) == (4 if leaving else 0)
    waiting_at(scheduler, 1, 1)
    waiting_at(scheduler, 0, 6)
    assert scheduler.schedule(0.0).stage == stage


@pytest.mark.parametrize("order", ["deepest", "fullest"])
def test_nobody_is_passed_over_for_long(order):
    scheduler = Scheduler(latency(1.0, 1.0), 8, order)
    scheduler._survive[0] = 1.0
    (lonely,) = waiting_at(scheduler, 1, 1)
    for _ in range(PASSES + 1):
        waiting_at(scheduler, 0, 50)
        batch = scheduler.schedule(0.0)
        if lonely in batch.requests:
            return
    raise AssertionError("it starves")


@pytest.mark.parametrize(("max_batch", "stage"), [(1, 0), (4, 0), (4, 1)])
def test_deadlines_starve_nobody(max_batch, stage):
    scheduler = Scheduler(latency(), max_batch)
    (patient,) = waiting_at(scheduler, stage, 1)
    for _ in range(PASSES + 1):
        waiting_at(scheduler, 0, 8, deadline=5.0)
        if patient in scheduler.schedule(0.0).requests:
            return
    raise AssertionError("it starves")


def test_a_deadline_goes_first_as_its_time_runs_out():
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 2, 8)
    waiting_at(scheduler, 0, 8)
    (hurried,) = waiting_at(scheduler, 0, 1, deadline=20.0)
    assert scheduler.late(10.0) == []
    assert scheduler.schedule(10.0).stage == 2  # 8 seconds; 2 are left, enough for stage 1
    waiting_at(scheduler, 2, 8)
    batch = scheduler.schedule(12.5)
    assert batch.stage == 0
    assert batch.requests[0] is hurried
    assert len(batch.requests) == 7  # eight would take too long


def test_who_has_no_time_for_another_stage_is_late():
    scheduler = Scheduler(latency(), 8)
    (soon,) = waiting_at(scheduler, 0, 1, deadline=5.0)
    (sooner,) = waiting_at(scheduler, 1, 1, deadline=3.0)
    (_gone,) = waiting_at(scheduler, 1, 1, deadline=2.0)
    scheduler.drop(_gone)
    assert scheduler.late(2.0) == []
    assert scheduler.late(2.5) == [sooner]
    assert scheduler.late(4.5) == [soon]
    assert scheduler.waiting == 0


def test_idle_threads_share_what_waits_where_that_is_sooner():
    linear, constant = Scheduler(latency(), 8), Scheduler(latency(1.0, 1.0), 8)
    for scheduler, size in ((linear, 3), (constant, 8)):
        waiting_at(scheduler, 0, 8)
        assert len(scheduler.schedule(0.0, idle=2).requests) == size


def test_a_rest_that_is_not_worth_filling_up_waits():
    filled = Latency([1, 4, 8], [[1.0, 2.0, 3.9]] * STAGES, filled=True)
    scheduler = Scheduler(filled, 8)
    waiting_at(scheduler, 0, 5)
    assert [len(scheduler.schedule(0.0).requests) for _ in range(2)] == [4, 1]


def test_degraded_batches_ask_and_do_not_tell_how_many_survive():
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    batch = scheduler.schedule(0.0, degraded=True)
    assert batch.head
    before = scheduler._survive[0]
    assert len(ran(scheduler, batch, [0.1] * 8)) == 8
    assert scheduler._survive[0] == before


def test_the_backlog_is_the_work_to_the_likely_exits():
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 3, 2)
    waiting_at(scheduler, 2, 1)
    assert scheduler.backlog() == pytest.approx(2 * 1 + 1 * 2)
    scheduler._survive[2] = 0.5
    assert scheduler.backlog() == pytest.approx(2 * 1 + 1 * 1.5)


def test_who_has_a_deadline_waits_for_those_who_have_one_too():
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 0, 8)
    waiting_at(scheduler, 1, 2, deadline=100.0)
    assert scheduler.wait() == 0
    hurried = waiting_at(scheduler, 0, 3, deadline=100.0)
    assert scheduler.wait() == scheduler.latency.time(0, 3)
    assert scheduler.drop(hurried[0])
    assert not scheduler.drop(hurried[0])
    assert scheduler.wait() == scheduler.latency.time(0, 2)
    while scheduler.schedule(0.0) is not None:
        pass
    assert scheduler.wait() == 0


def test_a_failed_batch_leaves():
    scheduler = Scheduler(latency(), 8)
    both = waiting_at(scheduler, 0, 2)
    assert scheduler.failed(scheduler.schedule(0.0)) == both
    assert scheduler.schedule(0.0) is None


def test_a_dropped_request_leaves_with_its_batch():
    scheduler = Scheduler(latency(), 2)
    (only,) = waiting_at(scheduler, 0, 1)
    batch = scheduler.schedule(0.0)
    assert not scheduler.drop(only)
    assert ran(scheduler, batch, [0.0]) == [only]
    assert only.opinions == []  # it was answered meanwhile: nothing is added
    assert scheduler.schedule(0.0) is None


# --- through all stages at once ---------------------------------------------------------------

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

    def __init__(self):
        self.scheduler = Scheduler(latency(through=THROUGH), 3)
        self.now, self.hurried = 0.0, -np.inf
        self.waiting, self.flying, self.left, self.all = [], [], [], []
        self.through = set()

    def add(self, kind):
        new = request(at=self.now, **KINDS[kind])
        if kind == "deadline":
            self.hurried = self.now
        for each in (self.waiting, self.all):
            each.append(new)
        self.scheduler.add(new)

    def schedule(self, degraded, idle):
        late = self.scheduler.late(self.now)
        self.left += late
        self.waiting = [each for each in self.waiting if each not in late]
        batch = self.scheduler.schedule(self.now, idle, degraded=degraded)
        if batch is None:
            assert not self.waiting
            return
        calm = self.now >= self.hurried + CALM
        nobody_asks = not any(any(each.policy.asks[:-1]) for each in self.waiting[:3])
        hurry = any(each.policy.deadline for each in self.waiting)
        nobody_deeper = not any(each.stage for each in self.waiting)
        assert batch.through == (
            not degraded and calm and nobody_asks and nobody_deeper and not hurry
        )
        if batch.through:
            assert batch.stage == 0
            self.through.update(batch.requests)
        self.waiting = [each for each in self.waiting if each not in batch.requests]
        self.flying.append(batch)

    def land(self, which, fails):
        if not self.flying:
            return
        batch = self.flying.pop(which % len(self.flying))
        if fails:
            self.left += self.scheduler.failed(batch)
            self.through.difference_update(batch.requests)
            return
        left = ran(self.scheduler, batch, [0.1] * len(batch.requests))
        self.left += left
        self.waiting += [each for each in batch.requests if each not in left]

    def drop(self, which):
        if not self.all or (chosen := self.all[which % len(self.all)]) in self.left:
            return
        waited = self.scheduler.drop(chosen)
        assert waited == (chosen in self.waiting)
        if waited:
            self.waiting.remove(chosen)
            self.left.append(chosen)

    def tick(self, seconds):
        self.now += seconds


@given(st.lists(turns, max_size=60))
def test_a_batch_goes_through_where_nobody_asks_and_nobody_hurries(steps):
    world = Turns()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    while world.waiting or world.flying:
        world.schedule(degraded=False, idle=0)
        world.land(0, fails=False)
    assert sorted(map(id, world.left)) == sorted(map(id, world.all))
    assert world.scheduler._running == [0] * (STAGES + 1)
    for each in world.through:
        if not each.ended:
            assert each.opinions[:-1] == [None] * (STAGES - 1)
            assert each.opinions[-1].confidence == 0.1


def through(size=8):
    scheduler = Scheduler(latency(through=THROUGH), 8)
    waiting_at(scheduler, 0, size, thresholds=NEVER_EARLY)
    return scheduler, scheduler.schedule(0.0)


@pytest.mark.parametrize("ends", ["late", "drop"])
def test_for_a_while_after_a_deadline_nothing_goes_through(ends):
    """For another would have to wait for all stages, and could not be kept within one."""
    scheduler = Scheduler(latency(through=THROUGH), 8)
    (hurried,) = waiting_at(scheduler, 0, 1, at=10.0, deadline=0.5)
    assert scheduler.late(10.0) == [hurried] if ends == "late" else scheduler.drop(hurried)
    for now, calm in ((10.0, False), (10.0 + CALM - 0.01, False), (10.0 + CALM, True)):
        waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
        batch = scheduler.schedule(now)
        assert batch.through == calm
        scheduler.failed(batch)


def test_while_a_deadline_waits_however_long_nothing_goes_through():
    scheduler = Scheduler(latency(through=THROUGH), 8)
    waiting_at(scheduler, 0, 16, thresholds=NEVER_EARLY)
    (patient,) = waiting_at(scheduler, 0, 1, deadline=1000.0)  # behind those of two batches
    assert not scheduler.schedule(100.0).through
    assert scheduler.drop(patient)
    assert scheduler.schedule(100.0).through


def test_batches_that_go_through_tell_of_their_own_time_alone():
    scheduler, batch = through()
    assert batch.through
    assert scheduler._running == [0] * STAGES + [8]  # no stage is to wait for survivors of it
    scheduler._survive = [0.5] * STAGES
    table, survive = scheduler.latency._tables, [*scheduler._survive]
    before = [[[*row] for row in rows] for rows in table]
    assert len(ran(scheduler, batch, [0.1] * 8, seconds=30.0)) == 8
    assert [[[*row] for row in rows] for rows in table] == before
    assert scheduler._survive[:-1] == [share + GAIN * (1 - share) for share in survive[:-1]]
    assert scheduler.latency.through.time(0, 8) > THROUGH[1]


def test_idle_threads_share_what_goes_through_by_its_own_time():
    times = Latency([1, 8], [[1.0, 8.0]] * STAGES, through=[LONGEST, LONGEST])
    scheduler = Scheduler(times, 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    assert len(scheduler.schedule(0.0, idle=1).requests) == 8
    waiting_at(scheduler, 0, 8)
    assert len(scheduler.schedule(0.0, idle=1).requests) == 4


@pytest.mark.parametrize(("one", "size"), [(LONGEST / 8, 8), (LONGEST / 3, 3), (LONGEST * 3, 1)])
def test_several_go_through_in_no_longer_than_others_may_wait(one, size):
    scheduler = Scheduler(latency(through=(one, 8 * one)), 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    batch = scheduler.schedule(0.0)
    assert (batch.through, len(batch.requests)) == (True, size)


def test_who_goes_through_may_hang_up_or_fail_as_anybody():
    scheduler, batch = through(2)
    gone, there = batch.requests
    assert not scheduler.drop(gone)
    assert ran(scheduler, batch, [0.1, 0.1]) == [gone, there]
    assert (gone.opinions, there.stage) == ([], STAGES)
    assert not scheduler.drop(there)
    scheduler, batch = through(2)
    assert scheduler.failed(batch) == list(batch.requests)
    assert scheduler._running == [0] * (STAGES + 1)
