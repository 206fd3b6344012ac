"""Compare the latencies measured by our load generator with those of MLPerf LoadGen.

LoadGen's Server scenario draws Poisson arrivals and issues each request when it is due. Latency
counts from then to the response, with its own clock and percentiles. Only the connections are
ours. Both generators send at the same rate, in turns. Needs `mlcommons-loadgen`.

    python -m benchmarks.serving.loadgen --data cifar10 --rate 400
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlperf_loadgen as lg
import numpy as np
import uvloop

from benchmarks.serving.figures import MEDIUM
from benchmarks.serving.rounds import CONNECTIONS
from benchmarks.serving.servers.commands import ours
from benchmarks.serving.servers.processes import started
from benchmarks.serving.servers.subject import parser, read_subject
from offramp.load.connection import HOST, NONE, Connection
from offramp.load.outcomes import NO_ANSWER, OK, open_loop, poisson
from offramp.load.process import generator
from offramp.load.sender import Load, Report

LOG = "mlperf_log_detail.txt"
MARK = ":::MLLOG "


@dataclass(frozen=True, slots=True)
class Summary:
    """Results of a generator.

    Attributes:
        requests: Number of requests.
        failed: Requests without an answer.
        p50: Median latency in milliseconds.
        p99: 99th percentile of latency in milliseconds.
    """

    requests: int
    failed: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """Parameters of one run of LoadGen.

    Attributes:
        port: Port of the server, on loopback.
        path: Path and query.
        rate: Mean number of requests per second.
        seconds: Duration.
        seed: Seed of arrivals and images.
    """

    port: int
    path: str
    rate: float
    seconds: float
    seed: int


class _Sender:
    """Sends one image per request, over an idle connection or a new one, in its own event loop."""

    def __init__(
        self, images: Sequence[bytes], scenario: Scenario, done: Callable[[int], None]
    ) -> None:
        block = f"POST {scenario.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: image/jpeg\r\n"
        self._requests = [
            b"%bContent-Length: %d\r\n\r\n%b" % (block.encode(), len(i), i) for i in images
        ]
        self._port, self._done = scenario.port, done
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self.loop = uvloop.new_event_loop()
        self.begun = self.failed = 0

    def send(self, sample: int, image: int) -> None:
        """Start to send a request. Can be called from any thread."""
        self.loop.call_soon_threadsafe(self._begin, sample, image)

    def _begin(self, sample: int, image: int) -> None:
        self.begun += 1
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                self._write(connection, sample, image)
                return
        task = self.loop.create_task(self._connect(sample, image))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, sample: int, image: int) -> None:
        connection = Connection(self._finish)
        try:
            await self.loop.create_connection(lambda: connection, HOST, self._port)
        except OSError:
            connection.request = sample
            self._finish(connection, NO_ANSWER, b"")
        else:
            self._write(connection, sample, image)

    def _write(self, connection: Connection, sample: int, image: int) -> None:
        connection.request = sample
        if connection.transport is None:  # closed right after it was opened
            self._finish(connection, NO_ANSWER, b"")
        else:
            connection.transport.write(self._requests[image])

    def _finish(self, connection: Connection, status: int, body: bytes) -> None:  # noqa: ARG002
        sample, connection.request = connection.request, NONE
        if sample == NONE:
            return
        self._done(sample)
        self.failed += status != OK
        if connection.transport is not None:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close idle connections."""
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0.01)  # so that the sockets are closed


@contextmanager
def _sending(images: Sequence[bytes], scenario: Scenario) -> Iterator[_Sender]:
    def done(sample: int) -> None:
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample, 0, 0)])

    sender = _Sender(images, scenario, done)
    thread = threading.Thread(target=sender.loop.run_forever)
    thread.start()
    try:
        yield sender
    finally:
        asyncio.run_coroutine_threadsafe(sender.close(), sender.loop).result()
        sender.loop.call_soon_threadsafe(sender.loop.stop)
        thread.join()
        sender.loop.close()


def settings(scenario: Scenario) -> lg.TestSettings:
    """Return the settings of the Server scenario, without a bound on latency."""
    made = lg.TestSettings()
    made.scenario, made.mode = lg.TestScenario.Server, lg.TestMode.PerformanceOnly
    made.server_target_qps = scenario.rate
    made.server_target_latency_ns = 10**12
    made.min_duration_ms = round(1e3 * scenario.seconds)
    made.min_query_count = 1
    made.schedule_rng_seed = made.sample_index_rng_seed = made.qsl_rng_seed = scenario.seed
    return made


def results(log: str) -> dict[str, float]:
    """Return the numbers in LoadGen's detailed log, by key."""
    lines = (json.loads(x.removeprefix(MARK)) for x in log.splitlines() if x.startswith(MARK))
    return {x["key"]: x["value"] for x in lines if isinstance(x["value"], int | float)}


def send_by_loadgen(images: Sequence[bytes], scenario: Scenario) -> Summary:
    """Run LoadGen, then read its log."""
    with TemporaryDirectory() as folder, _sending(images, scenario) as sender:
        logs = lg.LogSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False

        def issue(samples: list[lg.QuerySample]) -> None:
            for sample in samples:
                sender.send(sample.id, sample.index)

        sut = lg.ConstructSUT(issue, lambda: None)
        count = len(images)
        library = lg.ConstructQSL(count, count, lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(sut, library, settings(scenario), logs)
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(sut)
        found = results((Path(folder) / LOG).read_text(encoding="utf-8"))
        p50, p99 = (1e-6 * found[f"result_{q}_percentile_latency_ns"] for q in ("50.00", "99.00"))
        return Summary(sender.begun, sender.failed, p50, p99)


def summary_of(report: Report) -> Summary:
    """Summarise a load of our generator."""
    found = report.outcomes
    p50, p99 = (1e3 * found.percentile(q) for q in (50, 99))
    return Summary(len(found), int((~found.answered).sum()), p50, p99)


def print_turn(name: str, turn: Summary) -> None:
    """Print the numbers of a turn of a generator."""
    latency = f"p50 {turn.p50:8.2f}   p99 {turn.p99:8.2f} ms"
    print(f"{name} {turn.requests:6} requests {turn.failed:4} failed   {latency}", flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    made = parser("Compare our load generator with MLPerf LoadGen's Server scenario.")
    made.add_argument(
        "--rate", type=float, default=400.0, help="requests per second, Poisson arrivals"
    )
    made.add_argument("--seconds", type=float, default=5.0, help="seconds of a turn")
    made.add_argument("--rounds", type=int, default=5, help="turns of each generator")
    return made


def main() -> int:
    """Run the benchmark."""
    arguments = build_parser().parse_args()
    subject = read_subject(arguments)
    server, rate = ours(subject.target, *subject.options), arguments.rate
    seconds = arguments.seconds
    files, path, rng = subject.sent.files, server.paths[MEDIUM], np.random.default_rng(0)
    ratios = []
    with generator(files) as load, started(server, files[0], subject.out / "logs") as running:
        for number in range(arguments.rounds + 1):
            plan = open_loop(path, poisson(rate, seconds, rng), len(files), rng)
            mine = summary_of(load.send(plan, Load(running.port, CONNECTIONS)))
            theirs = send_by_loadgen(files, Scenario(running.port, path, rate, seconds, number))
            if number == 0:
                continue  # warm-up
            ratios.append((mine.p50 / theirs.p50, mine.p99 / theirs.p99))
            print_turn(f"{number:2} ours    ", mine)
            print_turn(f"{number:2} LoadGen ", theirs)
    p50, p99 = np.median(ratios, axis=0)
    print(f"ours / LoadGen, medians of {len(ratios)} rounds: p50 {p50:.3f}, p99 {p99:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
