"""The real scheduler in virtual time, compared with a naive schedule and an upper bound."""

from collections.abc import Sequence
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.engine.simulation import (
    Arrival,
    Result,
    Server,
    max_throughput,
    poisson_arrivals,
    run_closed_loop,
    run_naive,
)
from serving.engine.latency import Latency
from serving.engine.scheduling.scheduler import Scheduler
from serving.settings import Order

SHARES = (0.69, 0.05, 0.135, 0.125)
SIZES = [1, 8, 64]
# Seconds. On a CPU a batch takes the time of its images, on an accelerator mostly a fixed time.
CPU = Latency(SIZES, [[cost * n for n in SIZES] for cost in (0.4e-3, 0.9e-3, 0.9e-3, 0.7e-3)])
OVERHEAD = 1e-4  # seconds for each batch
ACCELERATOR = Latency(SIZES, [[1e-3 + 2e-5 * n for n in SIZES]] * 4)


def server(
    times: Latency,
    *,
    threads: int = 1,
    max_batch: int = 8,
    order: Order = "deepest",
    rebatch: bool = True,
) -> Server:
    scheduler = Scheduler(deepcopy(times), max_batch, order, rebatch=rebatch)
    return Server(scheduler, times, threads)


ARRIVALS = st.lists(
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
    ARRIVALS,
    st.sampled_from([CPU, ACCELERATOR]),
    st.integers(1, 3),
    st.integers(1, 9),
    st.sampled_from(["deepest", "fullest"]),
    st.booleans(),
)
def test_every_request_leaves_once_and_within_its_deadline(
    arrivals: list[Arrival],
    times: Latency,
    threads: int,
    max_batch: int,
    order: Order,
    rebatch: bool,
) -> None:
    subject = server(times, threads=threads, max_batch=max_batch, order=order, rebatch=rebatch)
    result = subject.run(arrivals)
    departed = [each.arrival for each in result.departures]
    assert sorted(map(id, departed)) == sorted(map(id, arrivals))
    assert max((size for _, size in result.batches), default=0) <= max_batch
    assert subject.scheduler.waiting == 0
    one_stage = max(times.time(stage, max_batch) for stage in range(4))
    for each in result.departures:
        if each.expired:
            assert each.stage < each.arrival.stage
        else:
            assert each.stage == each.arrival.stage
        if each.arrival.deadline is not None:
            assert each.seconds <= each.arrival.deadline + one_stage
    # No request waits while a thread is idle: one thread alone would not finish earlier.
    serial = sum(times.time(stage, 1) for a in arrivals for stage in range(a.stage + 1))
    assert result.end <= max(each.time for each in arrivals) + serial + 1e-9


@pytest.mark.parametrize("threads", [1, 2])
def test_rebatching_raises_throughput_if_a_batch_has_a_fixed_cost(threads: int) -> None:
    def at_saturation(*, rebatch: bool) -> Result:
        subject = server(ACCELERATOR, threads=threads, max_batch=64, rebatch=rebatch)
        return subject.run(poisson_arrivals(20_000 * threads, 3000, SHARES, 1))

    on, off = at_saturation(rebatch=True), at_saturation(rebatch=False)
    bound = max_throughput(arrivals_of(on), ACCELERATOR, threads, 64)
    assert on.throughput > 1.3 * off.throughput
    assert on.throughput > 0.9 * bound
    assert on.quantile(0.99) < off.quantile(0.99)


def test_rebatching_changes_nothing_if_a_batch_costs_as_much_as_its_images() -> None:
    load = poisson_arrivals(1500, 3000, SHARES, 2)
    on, off = (server(CPU, threads=2, rebatch=rebatch).run(load) for rebatch in (True, False))
    assert on.throughput == pytest.approx(off.throughput, rel=0.01)
    assert on.quantile(0.99) == pytest.approx(off.quantile(0.99), rel=0.05)


@pytest.mark.parametrize("times", [CPU, ACCELERATOR])
def test_latency_is_lower_than_with_the_naive_schedule(times: Latency) -> None:
    bound = max_throughput(poisson_arrivals(1, 2000, SHARES, 3), times, 2, 8, OVERHEAD)
    load = poisson_arrivals(0.7 * bound, 3000, SHARES, 3)
    subject = server(times, threads=2)
    subject.overhead = OVERHEAD
    result, naive = subject.run(load), run_naive(load, times, 2, OVERHEAD)
    assert result.quantile(0.5) < naive.quantile(0.5)
    assert result.quantile(0.99) < naive.quantile(0.99)
    assert result.throughput <= bound


def test_deadlines_are_kept_at_twice_the_maximum_throughput() -> None:
    bound = max_throughput(poisson_arrivals(1, 2000, SHARES, 4), CPU, 2, 8)
    load = poisson_arrivals(2 * bound, 4000, SHARES, 4, deadline=0.05)
    result = server(CPU, threads=2).run(load)
    assert max(each.seconds for each in result.departures) <= 0.05 + 8 * 0.9e-3
    answered = [each for each in result.departures if each.stage >= 0]
    assert len(answered) > 0.5 * len(load)


def test_a_closed_loop_keeps_its_clients_busy() -> None:
    result = run_closed_loop(server(CPU, threads=2), clients=64, count=3000, shares=SHARES, seed=5)
    assert len(result.departures) == 3000
    assert result.throughput > 0.98 * max_throughput(arrivals_of(result), CPU, 2, 8)
    # Little's law
    mean = sum(each.seconds for each in result.departures) / 3000
    assert result.throughput * mean == pytest.approx(64, rel=0.05)


def arrivals_of(result: Result) -> Sequence[Arrival]:
    return [each.arrival for each in result.departures]
