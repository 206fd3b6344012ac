"""Compare schedules in virtual time: order of stages, and merging of batches (rebatching).

Stage times are measured on this machine for a bundle's graphs. For an accelerator they are
modelled: a batch takes a fixed time and a small time for each image (CALL_SECONDS and
IMAGE_SECONDS). Exits are drawn from the exit shares that the manifest states for a budget. Every
schedule gets the same arrivals and the real scheduler decides. The printed limit is an upper bound
for all schedules: every stage always runs at its best batch size. With --real, the engine runs in
this process (no HTTP) with 64 clients that send random images. Thresholds are set for the same
exit shares.

    python -m benchmarks.engine.scheduling --bundle deploy/bundles/cifar10-msdnet
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import thread_time

from benchmarks.engine.loop import ClosedLoop, EngineResult, run_engine
from benchmarks.engine.simulation import (
    OVERHEAD,
    Result,
    Server,
    max_throughput,
    poisson_arrivals,
    run_closed_loop,
    run_naive,
)
from benchmarks.timing import positive_int
from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.latency import Latency
from serving.engine.scheduling.scheduler import Scheduler
from serving.engine.start.warm_up import measure
from serving.runtime.base import sizes_up_to
from serving.runtime.cpu import CpuRuntime
from serving.runtime.slots import HostSlots
from serving.settings import Order, Settings

CALL_SECONDS, IMAGE_SECONDS = 0.8e-3, 20e-6
LOADS = (0.5, 0.7, 0.9, 1.2)
CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Schedule:
    """Settings of the scheduler. Without an order it is the naive schedule."""

    name: str
    order: Order | None = None
    rebatch: bool = False


SCHEDULES = (
    Schedule("deepest, rebatching", "deepest", rebatch=True),
    Schedule("deepest", "deepest"),
    Schedule("fullest", "fullest"),
    Schedule("naive: one request at a time"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to simulate.

    Attributes:
        name: Description for the table.
        times: Seconds of each stage by batch size.
        threads: Number of stage threads.
        max_batch: Largest batch.
    """

    name: str
    times: Latency
    threads: int
    max_batch: int

    def server(self, order: Order, *, rebatch: bool) -> Server:
        """Return a new server, because a scheduler changes its estimates."""
        scheduler = Scheduler(deepcopy(self.times), self.max_batch, order, rebatch=rebatch)
        return Server(scheduler, self.times, self.threads, OVERHEAD)


def print_line(load: str, name: str, result: Result, stages: int) -> None:
    """Print one line of the table."""
    sizes: list[list[int]] = [[] for _ in range(stages)]
    for stage, size in result.batches:
        sizes[stage].append(size)
    means = " ".join(f"{sum(s) / max(1, len(s)):5.1f}" for s in sizes)
    print(
        f"{load:9} {name:28} {result.throughput:8.0f} {1e3 * result.quantile(0.5):9.2f} "
        f"{1e3 * result.quantile(0.99):9.2f}   {means}"
    )


def compare(machine: Machine, shares: Sequence[float], requests: int) -> None:
    """Print the table of one machine."""
    stages = machine.times.stages
    arrivals = poisson_arrivals(1, requests, shares, 0)
    bound = max_throughput(arrivals, machine.times, machine.threads, machine.max_batch, OVERHEAD)
    print(f"\n{machine.name}: {machine.threads} threads, batches up to {machine.max_batch}")
    print(f"limit for all schedules: {bound:.0f} answers/s")
    print(f"{'load':9} {'schedule':28} {'answers/s':>8} {'p50 ms':>9} {'p99 ms':>9}   mean batches")
    for load in LOADS:
        arrivals = poisson_arrivals(load * bound, requests, shares, 1)
        for schedule in SCHEDULES:
            if schedule.order is None:
                result = run_naive(arrivals, machine.times, machine.threads, OVERHEAD)
            else:
                result = machine.server(schedule.order, rebatch=schedule.rebatch).run(arrivals)
            print_line(f"{load:.0%}", schedule.name, result, stages)
    for schedule in SCHEDULES:
        if schedule.order is not None:
            server = machine.server(schedule.order, rebatch=schedule.rebatch)
            result = run_closed_loop(server, CLIENTS, requests, shares, 2)
            print_line(f"{CLIENTS} closed", schedule.name, result, stages)


def print_real(bundle: Path, shares: Sequence[float], machine: Machine, requests: int) -> None:
    """Print medians of the real engine for each schedule, from three interleaved rounds."""
    print(f"\nthe real engine, {CLIENTS} clients in a closed loop, beside the simulation")
    print(f"{'schedule':28} {'answers/s':>9} {'p50 ms':>9} {'p99 ms':>9} {'simulated':>10}")
    schedules = [(each, each.order) for each in SCHEDULES if each.order is not None]
    rounds: dict[str, list[EngineResult]] = {schedule.name: [] for schedule, _ in schedules}
    for _ in range(3):
        for schedule, order in schedules:
            settings = Settings(
                bundle=bundle,
                threads=machine.threads,
                max_batch=machine.max_batch,
                order=order,
                rebatch=schedule.rebatch,
            )
            result = run_engine(settings, shares, ClosedLoop(CLIENTS, requests))
            rounds[schedule.name].append(result)
    for schedule, order in schedules:
        median = sorted(rounds[schedule.name], key=lambda result: result.throughput)[1]
        server = machine.server(order, rebatch=schedule.rebatch)
        simulated = run_closed_loop(server, CLIENTS, requests, shares, 2).throughput
        print(
            f"{schedule.name:28} {median.throughput:9.0f} {1e3 * median.p50:9.2f} "
            f"{1e3 * median.p99:9.2f} {simulated:10.0f}"
        )


def measure_stages(bundle: Path, manifest: Manifest, max_batch: int) -> Latency:
    """Measure the stage times of a bundle on this machine's CPU."""
    runtime = CpuRuntime(bundle, manifest)
    return measure(
        runtime,
        HostSlots(runtime.inputs, runtime.features, max_batch),
        sizes_up_to(max_batch),
        thread_time,
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description="Compare schedules in virtual time.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option(
        "--bundle",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        help="folder of the bundle",
    )
    option("--budget", default="medium", help="budget that gives the exit shares")
    option("--threads", type=positive_int, default=2, help="stage threads")
    option("--requests", type=positive_int, default=10_000, help="requests in each simulation")
    option("--real", action="store_true", help="run the real engine too")
    return parser


def main() -> int:
    """Run the benchmark and return the exit status."""
    arguments = build_parser().parse_args()
    manifest = read_manifest(arguments.bundle)
    expected = [share.value for share in manifest.budgets[arguments.budget].exit_shares]
    shares = [share / sum(expected) for share in expected]
    cpu = Machine(
        f"this machine ({platform.machine()}), {manifest.name}, budget {arguments.budget}",
        measure_stages(arguments.bundle, manifest, 8),
        arguments.threads,
        8,
    )
    sizes = [1, 64]
    seconds = [CALL_SECONDS + IMAGE_SECONDS * size for size in sizes]
    accelerator = Machine(
        f"modelled: {1e3 * CALL_SECONDS:g} ms a batch, {1e6 * IMAGE_SECONDS:g} us an image",
        Latency(sizes, [seconds] * manifest.exits),
        1,
        64,
    )
    for machine in (cpu, accelerator):
        compare(machine, shares, arguments.requests)
    if arguments.real:
        print_real(arguments.bundle, shares, cpu, arguments.requests // 5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
