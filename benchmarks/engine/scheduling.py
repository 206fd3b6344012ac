"""Which stage next, and does waiting for survivors pay? Schedules compared in virtual time.

Stage times are measured on this machine for a bundle's graphs, or, for an accelerator, modelled:
a batch is a call of fixed cost plus a little for each image (CALL and IMAGE, seconds). Exits are
drawn from the shares that the manifest expects of a budget. Every schedule gets the same
arrivals; the real scheduler decides. `limit` is what no schedule exceeds: every stage always at
its best batch size. With --real, the engine itself runs in this process (no HTTP) with 64 clients
that send noise, thresholds set so that it leaves in the same shares.

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

from benchmarks.engine.loop import Real, run_real
from benchmarks.engine.simulation import Ran, Server, closed, limit, naive, poisson
from benchmarks.timing import positive
from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.latency import Latency
from serving.engine.scheduler import Scheduler
from serving.engine.warm_up import measure
from serving.runtime.base import sizes_up_to
from serving.runtime.cpu import Runtime
from serving.runtime.slots import Pool
from serving.settings import Order

CALL, IMAGE = 0.8e-3, 20e-6
AROUND = 0.15e-3  # seconds of Python around a batch
LOADS = (0.5, 0.7, 0.9, 1.2)
CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Choice:
    """A schedule; without an order it is the naive one."""

    name: str
    order: Order | None = None
    rebatch: bool = False


CHOICES = (
    Choice("deepest, rebatching", "deepest", rebatch=True),
    Choice("deepest", "deepest"),
    Choice("fullest", "fullest"),
    Choice("naive: one by one, through"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is simulated."""

    name: str
    times: Latency
    threads: int
    max_batch: int

    def server(self, order: Order, *, rebatch: bool) -> Server:
        """A fresh server: schedulers learn."""
        scheduler = Scheduler(deepcopy(self.times), self.max_batch, order, rebatch=rebatch)
        return Server(scheduler, self.times, self.threads, AROUND)


def print_line(load: str, name: str, ran: Ran, stages: int) -> None:
    """One line of the table."""
    sizes: list[list[int]] = [[] for _ in range(stages)]
    for stage, size in ran.batches:
        sizes[stage].append(size)
    means = " ".join(f"{sum(s) / max(1, len(s)):5.1f}" for s in sizes)
    print(
        f"{load:9} {name:27} {ran.throughput:8.0f} {1e3 * ran.quantile(0.5):9.2f} "
        f"{1e3 * ran.quantile(0.99):9.2f}   {means}"
    )


def compare(machine: Machine, shares: Sequence[float], requests: int) -> None:
    """The table of one machine."""
    stages = machine.times.stages
    most = limit(
        poisson(1, requests, shares, 0), machine.times, machine.threads, machine.max_batch, AROUND
    )
    print(f"\n{machine.name}: {machine.threads} threads, batches up to {machine.max_batch}")
    print(f"no schedule exceeds {most:.0f} answers/s")
    print(f"{'load':9} {'schedule':27} {'answers/s':>8} {'p50 ms':>9} {'p99 ms':>9}   mean batches")
    for load in LOADS:
        arrivals = poisson(load * most, requests, shares, 1)
        for choice in CHOICES:
            if choice.order is None:
                ran = naive(arrivals, machine.times, machine.threads, AROUND)
            else:
                ran = machine.server(choice.order, rebatch=choice.rebatch).run(arrivals)
            print_line(f"{load:.0%}", choice.name, ran, stages)
    for choice in CHOICES:
        if choice.order is not None:
            server = machine.server(choice.order, rebatch=choice.rebatch)
            ran = closed(server, CLIENTS, requests, shares, 2)
            print_line(f"{CLIENTS} closed", choice.name, ran, stages)


def print_real(bundle: Path, shares: Sequence[float], machine: Machine, requests: int) -> None:
    """The real engine, each schedule in turn, three rounds interleaved; medians."""
    print(f"\nthe real engine, {CLIENTS} clients in a closed loop, beside the simulation")
    print(f"{'schedule':27} {'answers/s':>9} {'p50 ms':>9} {'p99 ms':>9} {'simulated':>10}")
    choices = [choice for choice in CHOICES if choice.order is not None]
    rounds: dict[str, list[Real]] = {choice.name: [] for choice in choices}
    for _ in range(3):
        for choice in choices:
            assert choice.order is not None
            rounds[choice.name].append(
                run_real(
                    bundle,
                    shares,
                    machine.threads,
                    machine.max_batch,
                    choice.order,
                    rebatch=choice.rebatch,
                    clients=CLIENTS,
                    requests=requests,
                )
            )
    for choice in choices:
        assert choice.order is not None
        middle = sorted(rounds[choice.name], key=lambda real: real.throughput)[1]
        server = machine.server(choice.order, rebatch=choice.rebatch)
        simulated = closed(server, CLIENTS, requests, shares, 2).throughput
        print(
            f"{choice.name:27} {middle.throughput:9.0f} {1e3 * middle.p50:9.2f} "
            f"{1e3 * middle.p99:9.2f} {simulated:10.0f}"
        )


def measured(bundle: Path, manifest: Manifest, max_batch: int) -> Latency:
    """Stage times of the bundle on this machine's CPU."""
    runtime = Runtime(bundle, manifest)
    return measure(
        runtime,
        Pool(runtime.inputs, runtime.features, max_batch),
        sizes_up_to(max_batch),
        thread_time,
    )


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Schedules compared in virtual time.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--budget", default="medium", help="whose exit shares are drawn from")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--requests", type=positive, default=10_000)
    parser.add_argument("--real", action="store_true", help="run the real engine as well")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    expected = [share.value for share in manifest.budgets[arguments.budget].exit_shares]
    shares = [share / sum(expected) for share in expected]
    cpu = Machine(
        f"this machine ({platform.machine()}), {manifest.name}, budget {arguments.budget}",
        measured(arguments.bundle, manifest, 8),
        arguments.threads,
        8,
    )
    sizes = [1, 64]
    calls = Latency(sizes, [[CALL + IMAGE * size for size in sizes]] * manifest.exits)
    accelerator = Machine(
        f"modelled: {1e3 * CALL:g} ms a call, {1e6 * IMAGE:g} us an image", calls, 1, 64
    )
    for machine in (cpu, accelerator):
        compare(machine, shares, arguments.requests)
    if arguments.real:
        print_real(arguments.bundle, shares, cpu, arguments.requests // 5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
