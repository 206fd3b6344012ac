"""The real scheduler in virtual time: against a naive schedule, and what none exceeds."""

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.engine.simulation import Arrival, Server, closed, limit, naive, poisson
from serving.engine.latency import Latency
from serving.engine.scheduler import Scheduler

SHARES = (0.69, 0.05, 0.135, 0.125)
SIZES = [1, 8, 64]
# Seconds. A CPU, where a batch takes what its images take, and an accelerator, where it is a call.
CPU = Latency(SIZES, [[cost * n for n in SIZES] for cost in (0.4e-3, 0.9e-3, 0.9e-3, 0.7e-3)])
CALL = 1e-4  # seconds around a batch
CALLS = Latency(SIZES, [[1e-3 + 2e-5 * n for n in SIZES]] * 4)


def server(times, *, threads=1, max_batch=8, order="deepest", rebatch=True):
    scheduler = Scheduler(deepcopy(times), max_batch, order, rebatch=rebatch)
    return Server(scheduler, times, threads)


arrivals = st.lists(
    st.builds(
        Arrival,
        st.floats(0, 0.2),
        st.integers(0, 3),
        st.one_of(st.none(), st.floats(1e-4, 0.1)),
    ),
    min_size=1,
    max_size=80,
)


@settings(max_examples=100)
@given(
    arrivals,
    st.sampled_from([CPU, CALLS]),
    st.integers(1, 3),
    st.integers(1, 9),
    st.sampled_from(["deepest", "fullest"]),
    st.booleans(),
)
def test_everyone_leaves_once_and_in_time(
    arriving, times, threads, max_batch, order, rebatch
) -> None:
    world = server(times, threads=threads, max_batch=max_batch, order=order, rebatch=rebatch)
    ran = world.run(arriving)
    assert sorted(map(id, (each.arrival for each in ran.left))) == sorted(map(id, arriving))
    assert max(size for _, size in ran.batches) <= max_batch if ran.batches else True
    assert world.scheduler.waiting == 0
    one_stage = max(times.time(stage, max_batch) for stage in range(4))
    for each in ran.left:
        if each.expired:
            assert each.stage < each.arrival.stage
        else:
            assert each.stage == each.arrival.stage
        if each.arrival.deadline is not None:
            assert each.seconds <= each.arrival.deadline + one_stage
    # Nobody waits while a thread idles: the work is done as soon as one thread alone could do it.
    alone = sum(times.time(stage, 1) for a in arriving for stage in range(a.stage + 1))
    assert ran.end <= max(each.time for each in arriving) + alone + 1e-9


@pytest.mark.parametrize("threads", [1, 2])
def test_rebatching_pays_where_a_batch_is_a_call(threads) -> None:
    def at_saturation(*, rebatch):
        world = server(CALLS, threads=threads, max_batch=64, rebatch=rebatch)
        return world.run(poisson(20_000 * threads, 3000, SHARES, 1))

    on, off = at_saturation(rebatch=True), at_saturation(rebatch=False)
    most = limit([each.arrival for each in on.left], CALLS, threads, 64)
    assert on.throughput > 1.3 * off.throughput
    assert on.throughput > 0.9 * most
    assert on.quantile(0.99) < off.quantile(0.99)


def test_rebatching_changes_nothing_where_batches_gain_nothing() -> None:
    load = poisson(1500, 3000, SHARES, 2)
    on, off = (server(CPU, threads=2, rebatch=rebatch).run(load) for rebatch in (True, False))
    assert on.throughput == pytest.approx(off.throughput, rel=0.01)
    assert on.quantile(0.99) == pytest.approx(off.quantile(0.99), rel=0.05)


@pytest.mark.parametrize("times", [CPU, CALLS])
def test_it_beats_the_naive_schedule(times) -> None:
    most = limit(poisson(1, 2000, SHARES, 3), times, 2, 8, CALL)
    load = poisson(0.7 * most, 3000, SHARES, 3)
    world = server(times, threads=2)
    world.overhead = CALL
    ran, alone = world.run(load), naive(load, times, 2, CALL)
    assert ran.quantile(0.5) < alone.quantile(0.5)
    assert ran.quantile(0.99) < alone.quantile(0.99)
    assert ran.throughput <= most


def test_deadlines_are_kept_although_twice_the_limit_arrives() -> None:
    most = limit(poisson(1, 2000, SHARES, 4), CPU, 2, 8)
    load = poisson(2 * most, 4000, SHARES, 4, deadline=0.05)
    ran = server(CPU, threads=2).run(load)
    assert max(each.seconds for each in ran.left) <= 0.05 + 8 * 0.9e-3
    answered = [each for each in ran.left if each.stage >= 0]
    assert len(answered) > 0.5 * len(load)


def test_a_closed_loop_keeps_its_clients_busy() -> None:
    ran = closed(server(CPU, threads=2), clients=64, count=3000, shares=SHARES, seed=5)
    assert len(ran.left) == 3000
    assert ran.throughput > 0.98 * limit([each.arrival for each in ran.left], CPU, 2, 8)
    # Little's law
    mean = sum(each.seconds for each in ran.left) / 3000
    assert ran.throughput * mean == pytest.approx(64, rel=0.05)
