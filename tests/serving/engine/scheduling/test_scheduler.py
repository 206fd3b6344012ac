"""The scheduler with real requests, one step at a time."""

from __future__ import annotations

import pytest

from serving.engine.latency import Latency
from serving.engine.scheduling.scheduler import PASSES, Scheduler
from serving.settings import Order
from tests.serving.scheduling import (
    NEVER_EARLY,
    STAGES,
    latency,
    next_batch,
    ran,
    request,
    waiting_at,
)


def test_the_deepest_stage_runs_first_and_survivors_of_different_batches_run_on_together() -> None:
    scheduler = Scheduler(latency(), 2)
    first = waiting_at(scheduler, 0, 4)
    one, other = next_batch(scheduler, 0.0), next_batch(scheduler, 0.0)
    assert ran(scheduler, one, [0.9, 0.1]) == [first[0]]
    assert ran(scheduler, other, [0.1, 0.9]) == [first[3]]
    waiting_at(scheduler, 0, 2)
    merged = next_batch(scheduler, 0.0)
    assert (merged.stage, merged.requests) == (1, (first[1], first[2]))


def test_the_stage_with_the_longest_queue_runs_first_if_the_order_says_so() -> None:
    scheduler = Scheduler(latency(), 4, "fullest")
    waiting_at(scheduler, 0, 9)
    waiting_at(scheduler, 1, 3)
    waiting_at(scheduler, 2, 3)
    assert [next_batch(scheduler, 0.0).stage for _ in range(5)] == [0, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("times", "rebatch", "stage"),
    [((1.0, 1.0), True, 0), ((1.0, 1.0), False, 1), ((1.0, 8.0), True, 1), ((1.0, 6.5), True, 1)],
)
def test_a_stage_waits_for_survivors_only_if_the_measured_times_say_that_it_pays(
    times: tuple[float, float], rebatch: bool, stage: int
) -> None:
    scheduler = Scheduler(latency(*times), 8, rebatch=rebatch)
    waiting_at(scheduler, 1, 2)
    waiting_at(scheduler, 0, 8)
    assert next_batch(scheduler, 0.0).stage == stage


def test_a_full_batch_does_not_wait_for_survivors() -> None:
    scheduler = Scheduler(latency(1.0, 1.0), 8)
    waiting_at(scheduler, 1, 8)
    waiting_at(scheduler, 0, 8)
    assert next_batch(scheduler, 0.0).stage == 1


@pytest.mark.parametrize(("leaving", "stage"), [(True, 0), (False, 1)])
def test_a_shallower_stage_runs_first_if_its_requests_leave_there(
    leaving: bool, stage: int
) -> None:
    """Larger batches are not faster here, but stage 2 takes three times as long as stage 1."""
    scheduler = Scheduler(Latency([1, 8], [[1.0, 8.0], *[[3.0, 24.0]] * 3]), 8)
    for _ in range(100):
        waiting_at(scheduler, 0, 4)
        batch = next_batch(scheduler)
        finished = ran(scheduler, batch, [0.9 if leaving else 0.1] * 4, 4.0)
        assert len(finished) == (4 if leaving else 0)
        for each in {*batch.requests} - {*finished}:
            assert scheduler.drop(each)
    waiting_at(scheduler, 1, 1)
    waiting_at(scheduler, 0, 6)
    assert next_batch(scheduler, 0.0).stage == stage


@pytest.mark.parametrize("order", ["deepest", "fullest"])
def test_no_stage_is_passed_over_for_long(order: Order) -> None:
    scheduler = Scheduler(latency(1.0, 1.0), 8, order)
    scheduler.survival[0] = 1.0
    (lonely,) = waiting_at(scheduler, 1, 1)
    for _ in range(PASSES + 1):
        waiting_at(scheduler, 0, 50)
        batch = next_batch(scheduler, 0.0)
        if lonely in batch.requests:
            return
    raise AssertionError("the request starves")


@pytest.mark.parametrize(("max_batch", "stage"), [(1, 0), (4, 0), (4, 1)])
def test_requests_with_deadlines_starve_no_other(max_batch: int, stage: int) -> None:
    scheduler = Scheduler(latency(), max_batch)
    (relaxed,) = waiting_at(scheduler, stage, 1)
    for _ in range(PASSES + 1):
        waiting_at(scheduler, 0, 8, deadline=5.0)
        if relaxed in next_batch(scheduler, 0.0).requests:
            return
    raise AssertionError("the request starves")


def test_a_request_runs_first_when_its_deadline_is_near() -> None:
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 2, 8)
    waiting_at(scheduler, 0, 8)
    (urgent,) = waiting_at(scheduler, 0, 1, deadline=20.0)
    assert scheduler.expired(10.0) == []
    assert next_batch(scheduler, 10.0).stage == 2  # 8 seconds; 2 are left, enough for stage 1
    waiting_at(scheduler, 2, 8)
    batch = next_batch(scheduler, 12.5)
    assert batch.stage == 0
    assert batch.requests[0] is urgent
    assert len(batch.requests) == 7  # eight would take too long


def test_a_request_without_time_for_another_stage_expires() -> None:
    scheduler = Scheduler(latency(), 8)
    (soon,) = waiting_at(scheduler, 0, 1, deadline=5.0)
    (sooner,) = waiting_at(scheduler, 1, 1, deadline=3.0)
    (dropped,) = waiting_at(scheduler, 1, 1, deadline=2.0)
    scheduler.drop(dropped)
    assert scheduler.expired(2.0) == []
    assert scheduler.expired(2.5) == [sooner]
    assert scheduler.expired(4.5) == [soon]
    assert scheduler.waiting == 0


def test_a_batch_is_split_for_idle_threads_if_its_parts_end_sooner() -> None:
    linear, constant = Scheduler(latency(), 8), Scheduler(latency(1.0, 1.0), 8)
    for scheduler, size in ((linear, 3), (constant, 8)):
        waiting_at(scheduler, 0, 8)
        assert len(next_batch(scheduler, 0.0, idle=2).requests) == size


def test_a_rest_that_is_not_worth_filling_up_stays_in_the_queue() -> None:
    filled = Latency([1, 4, 8], [[1.0, 2.0, 3.9]] * STAGES, filled=True)
    scheduler = Scheduler(filled, 8)
    waiting_at(scheduler, 0, 5)
    assert [len(next_batch(scheduler, 0.0).requests) for _ in range(2)] == [4, 1]


def test_degraded_batches_run_the_head_and_do_not_change_the_survival_rate() -> None:
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 0, 8, thresholds=NEVER_EARLY)
    batch = next_batch(scheduler, 0.0, degraded=True)
    assert batch.head
    before = scheduler.survival[0]
    assert len(ran(scheduler, batch, [0.1] * 8)) == 8
    assert scheduler.survival[0] == before


def test_a_request_that_came_under_overload_skips_networks_after_it() -> None:
    scheduler = Scheduler(latency(), 1, firsts=(0, 2))
    requests = [request(thresholds) for thresholds in (NEVER_EARLY, NEVER_EARLY, (0.5,) * 4)]
    scheduler.schedule(0.0, degraded=True)
    for each in requests:
        scheduler.add(each)
    first = next_batch(scheduler, degraded=True)
    assert (first.stage, ran(scheduler, first, [0.1])) == (0, requests[:1])
    assert [next_batch(scheduler).stage for _ in range(2)] == [2, 0]
    assert [len(each.opinions) for each in requests] == [1, 2, 0]
    assert scheduler.waiting == 0


def test_the_backlog_is_the_work_to_the_likely_exits() -> None:
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 3, 2)
    waiting_at(scheduler, 2, 1)
    assert scheduler.backlog() == pytest.approx(2 * 1 + 1 * 2)
    scheduler.survival[2] = 0.5
    assert scheduler.backlog() == pytest.approx(2 * 1 + 1 * 1.5)


def test_a_request_with_a_deadline_waits_only_for_others_with_one() -> None:
    scheduler = Scheduler(latency(), 8)
    waiting_at(scheduler, 0, 8)
    waiting_at(scheduler, 1, 2, deadline=100.0)
    assert scheduler.seconds_to_first_stage() == 0
    urgent = waiting_at(scheduler, 0, 3, deadline=100.0)
    assert scheduler.seconds_to_first_stage() == scheduler.latency.time(0, 3)
    assert scheduler.drop(urgent[0])
    assert not scheduler.drop(urgent[0])
    assert scheduler.seconds_to_first_stage() == scheduler.latency.time(0, 2)
    while scheduler.schedule(0.0) is not None:
        pass
    assert scheduler.seconds_to_first_stage() == 0


def test_all_requests_of_a_failed_batch_leave() -> None:
    scheduler = Scheduler(latency(), 8)
    both = waiting_at(scheduler, 0, 2)
    assert scheduler.failed(next_batch(scheduler, 0.0)) == both
    assert scheduler.schedule(0.0) is None


def test_a_dropped_request_leaves_with_its_batch() -> None:
    scheduler = Scheduler(latency(), 2)
    (only,) = waiting_at(scheduler, 0, 1)
    batch = next_batch(scheduler, 0.0)
    assert not scheduler.drop(only)
    assert ran(scheduler, batch, [0.0]) == [only]
    assert only.opinions == []  # it was answered meanwhile, so nothing is added
    assert scheduler.schedule(0.0) is None
