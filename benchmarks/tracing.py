"""Measure what traces cost a server, in CPU time for a request and in latency.

python -m benchmarks.tracing --bundle deploy/bundles/cifar10-msdnet

Three servers answer the same requests in turn: without traces, with traces of which none is
sampled, and with every request sampled. A receiver in a process of its own gets the spans. The CPU
time is that of the whole server, with the thread that encodes and sends spans. Needs the extra
`tracing`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from sys import executable
from tempfile import TemporaryDirectory
from time import sleep
from typing import NamedTuple

import numpy as np

from benchmarks.serving.servers.processes import PORT, Running, Server, started
from offramp.bundle.manifest import read_manifest
from offramp.load.outcomes import OK, closed
from offramp.load.sender import Load, send

TRACEPARENT = f"00-{0xC0FFEE:032x}-{0xABC:016x}-01"
PIXELS = "application/vnd.offramp.uint8"
IMAGES = 64  # different ones
EXPORTED = 2.0  # seconds until the last spans of a round are sent
MICRO, MILLI = 1e6, 1e3


class Mode(NamedTuple):
    """A server and its requests.

    Attributes:
        name: Name in the table.
        traced: The server exports traces.
        sampled: Its clients sample each request.
    """

    name: str
    traced: bool
    sampled: bool


class Cost(NamedTuple):
    """CPU seconds of the server for a request, and the median latency in seconds."""

    cpu: float
    latency: float


MODES = (
    Mode("off", traced=False, sampled=False),
    Mode("on, not sampled", traced=True, sampled=False),
    Mode("on, sampled", traced=True, sampled=True),
)


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


def server_of(mode: Mode, bundle: Path, url: str) -> Server:
    """Return the server of a mode."""
    command = [executable, "-m", "serving", "--bundle", str(bundle), "--port", PORT]
    if mode.traced:
        command += ["--otlp-endpoint", url, "--trace-share", "0"]
    headers = {"Content-Type": PIXELS}
    if mode.sampled:
        headers["traceparent"] = TRACEPARENT
    name = mode.name.replace(" ", "-").replace(",", "")
    return Server(name, command, {"low": "/classify?budget=low"}, headers=headers)


def measure(running: Running, images: Sequence[bytes], requests: int) -> Cost:
    """Send requests over one connection, one after the other, and measure the server.

    Raises:
        RuntimeError: A request was not answered.
    """
    plan = closed("/classify?budget=low", requests, len(images), np.random.default_rng(0))
    before = running.usage().cpu
    load = Load(running.port, connections=1, headers=running.server.headers)
    outcomes = send(images, plan, load).outcomes
    sleep(EXPORTED)
    cpu = running.usage().cpu - before
    if not (outcomes.status == OK).all():
        raise RuntimeError(f"{running.server.name} did not answer each request")
    return Cost(cpu / requests, outcomes.percentile(50))


def run(bundle: Path, rounds: int, requests: int) -> dict[str, list[Cost]]:
    """Measure all modes in turn. Return the costs of each, one for each round."""
    size = read_manifest(bundle).input
    shape = (IMAGES, size.height, size.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images = [each.tobytes() for each in pixels]
    costs: dict[str, list[Cost]] = {mode.name: [] for mode in MODES}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        url, end = stack.enter_context(receiver())
        servers = {
            mode.name: stack.enter_context(started(server_of(mode, bundle, url), images[0], folder))
            for mode in MODES
        }
        for running in servers.values():
            measure(running, images, requests // 10)
        for _ in range(rounds):
            for name, running in servers.items():
                costs[name].append(measure(running, images, requests))
        print(f"{end()} spans were received")
    return costs


def table(costs: dict[str, list[Cost]]) -> str:
    """Return a table of medians, in Markdown. Differences are those to `off`, of each round."""
    off = costs[MODES[0].name]
    lines = [
        "| traces | CPU of a request | more than off (lowest to highest round) | median latency |",
        "|---|--:|--:|--:|",
    ]
    for name, found in costs.items():
        more = sorted(MICRO * (a.cpu - b.cpu) for a, b in zip(found, off, strict=True))
        cpu = MICRO * median(cost.cpu for cost in found)
        latency = MILLI * median(cost.latency for cost in found)
        difference = f"{median(more):.0f} µs ({more[0]:.0f} to {more[-1]:.0f})"
        lines.append(
            f"| {name} | {cpu:.0f} µs | {'' if found is off else difference} | {latency:.3f} ms |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/cifar10-msdnet"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000, help="of each round")
    options = parser.parse_args()
    print(table(run(options.bundle, options.rounds, options.requests)))


if __name__ == "__main__":
    main()
