"""Measure what a trace costs a server, in CPU time of each of its threads.

    python -m benchmarks.tracing --bundle deploy/bundles/cifar10-msdnet

A request at full depth is traced many times, by the code that traces requests of a server. It was
part of a batch of each stage. A receiver in a process of its own gets the spans. Times are CPU time
of the thread that does the work, so that other processes change them little. Needs the extra
`tracing`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep, thread_time

import numpy as np

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.opinion import Opinion
from serving.engine.policy import resolve
from serving.engine.request import Answer, Run
from serving.http.tracing.trace import Trace, Tracing

NAME = "POST /classify"
SAMPLED = b"00-%032x-%016x-01" % (0xC0FFEE, 0xABC)
OTHERS = b"vendor=1"  # a `tracestate`
LOOPS = 20_000  # of requests that are not sampled
BATCH = 64  # traces between two pauses, in which the exporter empties its queue
PAUSE = 0.5
MICRO = 1e6


def receive(pipe: Connection) -> None:
    """Receive spans until a message comes. Send the URL, and in the end the number of spans."""
    from benchmarks.otlp import receiving  # late: needs the extra

    spans: list[None] = []
    with receiving(lambda *_: spans.append(None)) as url:
        pipe.send(url)
        pipe.recv()
        pipe.send(len(spans))


@contextmanager
def receiver() -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a receiver. Yield its URL, and a function that ends it and returns the spans it got."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=receive, args=(theirs,), daemon=True)
    process.start()

    def end() -> int:
        ours.send(None)
        found: int = ours.recv()
        return found

    try:
        yield ours.recv(), end
    finally:
        process.kill()
        process.join()


def complete(trace: Trace, manifest: Manifest, answer: Answer) -> None:
    """Let a trace collect what a request through all stages collects."""
    now = perf_counter()
    (runs,) = trace.submit(1, now, 1e-4)
    stages = range(manifest.exits)
    runs += [
        Run(stage, whole_network=False, size=4, started=now + stage / 1e3, ended=now + stage / 1e3)
        for stage in stages
    ]
    trace.answers = [answer]


def answer_of(manifest: Manifest) -> Answer:
    """Return an answer of the last exit."""
    policy = resolve(manifest, "full", None, None)
    last = Opinion(0.9, np.zeros(len(manifest.labels), np.float32))
    opinions = (None,) * (manifest.exits - 1) + (last,)
    return Answer(
        policy,
        opinions,
        deadline_hit=False,
        degraded=False,
        queue=0.0,
        compute=0.0,
        total=0.0,
        flops=manifest.full_flops,
    )


def unsampled(tracing: Tracing) -> float:
    """Return the CPU seconds of a request that is not sampled."""
    began = thread_time()
    for _ in range(LOOPS):
        tracing.begin(NAME, (b"", b""), 0.0, b"")
    return (thread_time() - began) / LOOPS


def sampled(tracing: Tracing, manifest: Manifest, traces: int) -> tuple[float, float]:
    """Return the CPU seconds of a sampled request: of its thread, and of those that export."""
    answer, thread, everything = answer_of(manifest), 0.0, process_time()
    for number in range(traces):
        began = thread_time()
        trace = tracing.begin(NAME, (SAMPLED, OTHERS), perf_counter(), b"mine-1")
        assert trace is not None
        complete(trace, manifest, answer)
        trace.end_http(200, b"mine-1")
        thread += thread_time() - began
        if number % BATCH == BATCH - 1:
            sleep(PAUSE)
    asyncio.run(tracing.close())
    return thread / traces, (process_time() - everything - thread) / traces


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/cifar10-msdnet"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--traces", type=int, default=1024, help="of each round")
    return parser


def main() -> None:
    """Measure and print a table."""
    from serving.http.tracing.export import OtlpRecorder  # late: needs the extra

    options = build_parser().parse_args()
    manifest = read_manifest(options.bundle)
    found: list[tuple[float, float, float]] = []
    with receiver() as (url, end):
        for _ in range(options.rounds):
            tracing = Tracing(0.0, OtlpRecorder(url, manifest))
            sleep(PAUSE)  # threads start
            found.append((unsampled(tracing), *sampled(tracing, manifest, options.traces)))
        spans = end() / options.rounds / options.traces
    print_table(found, spans)


def print_table(found: Sequence[tuple[float, float, float]], spans: float) -> None:
    """Print the CPU times in seconds of all rounds, for a request of so many spans."""
    names = (
        "not sampled, on the event loop",
        f"sampled, on the event loop ({spans:.1f} spans)",
        "sampled, on the threads that export",
    )
    print("| request | CPU time, median | lowest and highest round |\n|---|--:|--:|")
    for name, times in zip(names, zip(*found, strict=True), strict=True):
        low, middle, high = (MICRO * each(times) for each in (min, median, max))
        print(f"| {name} | {middle:.1f} µs | {low:.1f} to {high:.1f} µs |")


if __name__ == "__main__":
    main()
