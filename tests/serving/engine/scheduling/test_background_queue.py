"""Copies in their queues, and beside requests in a scheduler."""

from __future__ import annotations

import pytest

from serving.engine.batch import Batch
from serving.engine.latency import Latency
from serving.engine.policy import Policy
from serving.engine.request import Request
from serving.engine.scheduling.background_queue import (
    IDLE_SECONDS,
    MAX_WAIT,
    BackgroundQueue,
)
from serving.engine.scheduling.scheduler import Scheduler
from tests.serving.scheduling import (
    NEVER_EARLY,
    STAGES,
    at_stage,
    latency,
    next_batch,
    ran,
    request,
    waiting_at,
)

FAST = Latency([1, 8], [[1e-4, 8e-4]] * STAGES)


def copy_at(stage: int) -> Request:
    return at_stage(request(NEVER_EARLY), stage)


def run_all(queue: BackgroundQueue, times: Latency) -> list[Batch]:
    """Return all batches, each as if it had ended before the next."""
    batches = []
    while (batch := queue.schedule(times, 0.0)) is not None:
        batches.append(batch)
        queue.runs = False
    return batches


def going_on(queue: BackgroundQueue, batch: Batch) -> None:
    """Let the copies of a batch go on to the next stage, if there is one."""
    queue.runs = False
    for copy in batch.requests:
        copy.opinions.append(None)
        if copy.stage < STAGES:
            queue.add(copy)


def sizes_to_the_end(queue: BackgroundQueue, now: float = 0.0) -> list[tuple[int, int]]:
    """Run all copies that wait for no others to the last exit. Return stages and sizes."""
    found = []
    while (batch := queue.schedule(FAST, now)) is not None:
        found.append((batch.stage, len(batch.requests)))
        going_on(queue, batch)
    return found


def test_the_shallowest_stage_runs_first_in_the_order_of_arrival() -> None:
    queue = BackgroundQueue(STAGES, 8)
    copies = [copy_at(stage) for stage in (1, 3, 1, 3)]
    for copy in copies:
        queue.add(copy)
    batches = run_all(queue, FAST)
    found = [(batch.stage, batch.requests, batch.head) for batch in batches]
    assert found == [(1, (copies[0], copies[2]), False), (3, (copies[1], copies[3]), True)]
    assert queue.waiting == 0


def test_copies_gather_and_are_together_in_the_deeper_stages() -> None:
    queue = BackgroundQueue(STAGES, 8, gather=5)
    for stage in (1, 3, 1, 2):
        queue.add(copy_at(stage))
    assert queue.schedule(FAST, 0.0) is None
    queue.add(copy_at(3))
    assert sizes_to_the_end(queue) == [(1, 2), (2, 3), (3, 5)]


def test_a_copy_joins_others_that_run_only_if_it_is_not_behind_them() -> None:
    queue = BackgroundQueue(STAGES, 8, gather=2)
    for _ in range(2):
        queue.add(copy_at(1))
    batch = queue.schedule(FAST, 0.0)
    assert batch is not None
    for stage in (1, 3):
        queue.add(copy_at(stage))
    going_on(queue, batch)
    assert sizes_to_the_end(queue) == [(2, 2), (3, 3)]
    assert queue.waiting == 1
    assert sizes_to_the_end(queue, MAX_WAIT) == [(1, 1), (2, 1), (3, 1)]


def test_a_copy_waits_for_others_for_a_bounded_time() -> None:
    queue = BackgroundQueue(STAGES, 8, gather=5)
    for at in (1.0, 3.0):
        queue.add(at_stage(request(NEVER_EARLY, at), 3))
    assert queue.schedule(FAST, 1.0 + MAX_WAIT - 1e-3) is None
    assert sizes_to_the_end(queue, 1.0 + MAX_WAIT) == [(3, 2)]


def test_copies_wait_for_no_others_once_a_server_is_idle() -> None:
    scheduler = Scheduler(latency(), 8, gather=5)
    background = scheduler.background
    waiting_at(scheduler, 0, 1)
    batch = next_batch(scheduler)
    background.add(copy_at(3))
    assert scheduler.schedule_background(1.0) is None
    assert background.seconds_to_next(1.0) is None  # the thread with the request looks again
    ran(scheduler, batch, [1.0])
    assert scheduler.schedule_background(1.1) is None
    assert background.seconds_to_next(1.1) == pytest.approx(IDLE_SECONDS)
    waiting_at(scheduler, 0, 1)
    ran(scheduler, next_batch(scheduler), [1.0])
    assert scheduler.schedule_background(1.3) is None
    assert background.seconds_to_next(1.3 + IDLE_SECONDS / 2) == pytest.approx(IDLE_SECONDS / 2)
    idle = scheduler.schedule_background(1.3 + IDLE_SECONDS)
    assert idle is not None
    assert background.seconds_to_next(1.4) is None


def test_batches_of_one_stage_have_about_equal_sizes() -> None:
    queue = BackgroundQueue(STAGES, 8)
    for _ in range(9):
        queue.add(copy_at(3))
    assert [len(batch.requests) for batch in run_all(queue, FAST)] == [5, 4]


@pytest.mark.parametrize(
    ("seconds", "most", "sizes"),
    [(1e-4, 8, [6]), (1e-4, 4, [3, 3]), (2e-3, 8, [2, 2, 2]), (1.0, 8, [1] * 6)],
)
def test_a_batch_is_short_because_requests_wait_for_its_end(
    seconds: float, most: int, sizes: list[int]
) -> None:
    queue = BackgroundQueue(STAGES, most)
    for _ in range(6):
        queue.add(copy_at(2))
    times = Latency([1, 8], [[seconds, 8 * seconds]] * STAGES)
    assert [len(batch.requests) for batch in run_all(queue, times)] == sizes


def test_one_batch_runs_at_a_time_so_that_a_thread_stays_free() -> None:
    queue = BackgroundQueue(STAGES, 1)
    for _ in range(2):
        queue.add(copy_at(2))
    assert queue.schedule(FAST, 0.0) is not None
    assert queue.schedule(FAST, 0.0) is None
    queue.runs = False
    assert queue.schedule(FAST, 0.0) is not None


def test_a_copy_that_is_removed_does_not_run() -> None:
    queue = BackgroundQueue(STAGES, 8)
    copy = copy_at(1)
    queue.add(copy)
    assert queue.remove(copy)
    assert not queue.remove(copy)
    assert (queue.waiting, queue.schedule(FAST, 0.0)) == (0, None)


def test_copies_wait_while_a_request_waits() -> None:
    scheduler = Scheduler(latency(), 2)
    copy = copy_at(2)
    scheduler.add(copy, background=True)
    waiting_at(scheduler, 0, 1)
    assert scheduler.waiting == 1
    assert scheduler.schedule_background(0.0) is None
    assert scheduler.schedule(0.0) is not None
    batch = scheduler.schedule_background(0.0)
    assert batch is not None
    assert batch.requests == (copy,)


def test_copies_run_to_the_last_exit_and_teach_the_scheduler_times_only() -> None:
    scheduler = Scheduler(latency(1e-3, 8e-3), 2)
    survival, before = [*scheduler.survival], scheduler.latency.time(3, 1)
    copy = copy_at(2)
    scheduler.add(copy, background=True)
    for leaving in ([], [copy]):
        batch = scheduler.schedule_background(0.0)
        assert batch is not None
        assert scheduler.running == [0] * (STAGES + 1)
        assert ran(scheduler, batch, [0.5], seconds=2e-3) == leaving
    assert copy.stage == STAGES
    assert scheduler.survival == survival
    assert scheduler.latency.time(3, 1) > before


def test_copies_skip_stages_of_a_cascade_that_full_depth_does_not_need() -> None:
    scheduler = Scheduler(latency(), 2, firsts=(0, 2))
    copy = copy_at(1)
    scheduler.add(copy, background=True)
    assert scheduler.schedule_background(0.0) is not None
    assert copy.stage == 2


def test_after_a_batch_of_copies_failed_others_run() -> None:
    scheduler = Scheduler(latency(), 1)
    copies = [copy_at(1), copy_at(1)]
    for copy in copies:
        scheduler.add(copy, background=True)
    for copy in copies:
        batch = scheduler.schedule_background(0.0)
        assert batch is not None
        assert scheduler.failed(batch) == [copy]


def test_a_copy_that_is_given_up_leaves_its_queue_or_its_batch() -> None:
    scheduler = Scheduler(latency(), 2)
    queued, running = copy_at(1), copy_at(2)
    scheduler.add(running, background=True)
    batch = scheduler.schedule_background(0.0)
    assert batch is not None
    scheduler.add(queued, background=True)
    assert scheduler.drop(queued)
    assert not scheduler.drop(running)
    assert ran(scheduler, batch, [0.5]) == [running]


def test_the_policy_of_a_copy_says_which_heads_run() -> None:
    queue = BackgroundQueue(STAGES, 8)
    copy = copy_at(1)
    copy.policy = Policy("p", "p", (0.5, 0.5, 0.5, 0.0))
    queue.add(copy)
    batch = queue.schedule(FAST, 0.0)
    assert batch is not None
    assert batch.head


def test_copies_wait_while_another_engine_has_a_request() -> None:
    queue = BackgroundQueue(STAGES, 8, gather=2)
    busy = True
    queue.elsewhere = lambda: busy
    queue.idle_since = 0.0
    queue.add(copy_at(1))
    assert queue.schedule(FAST, MAX_WAIT) is None
    assert queue.seconds_to_next(MAX_WAIT) == IDLE_SECONDS  # a thread looks again
    busy = False
    assert sizes_to_the_end(queue) == []  # it waits for others first
    queue.add(copy_at(1))
    batch = queue.schedule(FAST, 0.0)
    assert batch is not None
    busy = True
    going_on(queue, batch)
    assert queue.schedule(FAST, 0.0) is None  # between two stages too
    busy = False
    assert sizes_to_the_end(queue) == [(2, 2), (3, 2)]
