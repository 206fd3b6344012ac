"""Do our generator and MLPerf LoadGen agree on how long our server takes?

LoadGen's Server scenario draws Poisson arrivals, calls when each is due, and takes latency from
then to the answer, with its own clock and percentiles; only the connections are ours. Both send
at the same rate, in turns. Needs `mlcommons-loadgen`.

    python -m benchmarks.serving.loadgen --data cifar10 --rate 400
"""

from __future__ import annotations

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
from benchmarks.serving.generator.connection import HOST, NONE, Connection
from benchmarks.serving.generator.load import Load, Report
from benchmarks.serving.generator.outcomes import NO_ANSWER, OK, open_loop, poisson
from benchmarks.serving.generator.process import generator
from benchmarks.serving.rounds import CONNECTIONS
from benchmarks.serving.servers.commands import ours
from benchmarks.serving.servers.processes import started
from benchmarks.serving.servers.subject import parser, subject

LOG = "mlperf_log_detail.txt"
MARK = ":::MLLOG "


@dataclass(frozen=True, slots=True)
class Seen:
    """What a generator saw: calls, those without a good answer, and latencies in milliseconds."""

    calls: int
    failed: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What LoadGen is to do.

    Args:
        port: of the server, on loopback.
        path: and query.
        rate: of calls a second, on average.
        seconds: how long.
        seed: of arrivals and images.
    """

    port: int
    path: str
    rate: float
    seconds: float
    seed: int


class _Caller:
    """Sends one image a call, over an idle connection or a new one, in its own event loop."""

    def __init__(self, images: Sequence[bytes], asked: Asked, done: Callable[[int], None]) -> None:
        head = f"POST {asked.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: image/jpeg\r\n"
        self._requests = [
            b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(i), i) for i in images
        ]
        self._port, self._done = asked.port, done
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self.loop = uvloop.new_event_loop()
        self.calls = self.failed = 0

    def call(self, sample: int, image: int) -> None:
        """Begin a call; from any thread."""
        self.loop.call_soon_threadsafe(self._begin, sample, image)

    def _begin(self, sample: int, image: int) -> None:
        self.calls += 1
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                self._write(connection, sample, image)
                return
        task = self.loop.create_task(self._connect(sample, image))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, sample: int, image: int) -> None:
        connection = Connection(self._answered)
        try:
            await self.loop.create_connection(lambda: connection, HOST, self._port)
        except OSError:
            connection.call = sample
            self._answered(connection, NO_ANSWER, b"")
        else:
            self._write(connection, sample, image)

    def _write(self, connection: Connection, sample: int, image: int) -> None:
        connection.call = sample
        if connection.transport is None:  # opened, and closed at once
            self._answered(connection, NO_ANSWER, b"")
        else:
            connection.transport.write(self._requests[image])

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:  # noqa: ARG002
        sample, connection.call = connection.call, NONE
        if sample == NONE:
            return
        self._done(sample)
        self.failed += status != OK
        if connection.transport is not None:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0.01)  # for the sockets to be closed


@contextmanager
def _calling(images: Sequence[bytes], asked: Asked) -> Iterator[_Caller]:
    def done(sample: int) -> None:
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample, 0, 0)])

    caller = _Caller(images, asked, done)
    thread = threading.Thread(target=caller.loop.run_forever)
    thread.start()
    try:
        yield caller
    finally:
        asyncio.run_coroutine_threadsafe(caller.close(), caller.loop).result()
        caller.loop.call_soon_threadsafe(caller.loop.stop)
        thread.join()
        caller.loop.close()


def settings(asked: Asked) -> lg.TestSettings:
    """The Server scenario for so many seconds; no bound on latency."""
    made = lg.TestSettings()
    made.scenario, made.mode = lg.TestScenario.Server, lg.TestMode.PerformanceOnly
    made.server_target_qps = asked.rate
    made.server_target_latency_ns = 10**12
    made.min_duration_ms = round(1e3 * asked.seconds)
    made.min_query_count = 1
    made.schedule_rng_seed = made.sample_index_rng_seed = made.qsl_rng_seed = asked.seed
    return made


def results(log: str) -> dict[str, float]:
    """The numbers of LoadGen's detailed log, by key."""
    lines = (json.loads(x.removeprefix(MARK)) for x in log.splitlines() if x.startswith(MARK))
    return {x["key"]: x["value"] for x in lines if isinstance(x["value"], int | float)}


def send_by_loadgen(images: Sequence[bytes], asked: Asked) -> Seen:
    """Let LoadGen send, and read what it logged."""
    with TemporaryDirectory() as folder, _calling(images, asked) as caller:
        logs = lg.LogSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False

        def issue(samples: list[lg.QuerySample]) -> None:
            for sample in samples:
                caller.call(sample.id, sample.index)

        sut = lg.ConstructSUT(issue, lambda: None)
        everyone = len(images)
        library = lg.ConstructQSL(everyone, everyone, lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(sut, library, settings(asked), logs)
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(sut)
        found = results((Path(folder) / LOG).read_text(encoding="utf-8"))
        p50, p99 = (1e-6 * found[f"result_{q}_percentile_latency_ns"] for q in ("50.00", "99.00"))
        return Seen(caller.calls, caller.failed, p50, p99)


def seen(report: Report) -> Seen:
    """By our generator."""
    found = report.outcomes
    p50, p99 = (1e3 * found.percentile(q) for q in (50, 99))
    return Seen(len(found), int((~found.answered).sum()), p50, p99)


def main() -> int:
    """Entry point."""
    made = parser("Ours and MLPerf LoadGen's Server scenario at the same rate, in turns.")
    made.add_argument("--rate", type=float, default=400.0, help="of Poisson arrivals, a second")
    made.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    made.add_argument("--rounds", type=int, default=5)
    arguments = made.parse_args()
    of = subject(arguments)
    server, rate, seconds = ours(of.target, *of.options), arguments.rate, arguments.seconds
    files, path, rng = of.sent.files, server.paths[MEDIUM], np.random.default_rng(0)
    ratios = []
    with generator(files) as load, started(server, files[0], of.out / "logs") as running:
        for number in range(arguments.rounds + 1):
            plan = open_loop(path, poisson(rate, seconds, rng), len(files), rng)
            mine = seen(load.send(plan, Load(running.port, CONNECTIONS)))
            theirs = send_by_loadgen(files, Asked(running.port, path, rate, seconds, number))
            if number == 0:
                continue  # warm-up
            ratios.append((mine.p50 / theirs.p50, mine.p99 / theirs.p99))
            for name, each in (("ours", mine), ("LoadGen", theirs)):
                print(
                    f"{number:2} {name:8} {each.calls:6} calls {each.failed:4} failed   "
                    f"p50 {each.p50:8.2f}   p99 {each.p99:8.2f} ms",
                    flush=True,
                )
    p50, p99 = np.median(ratios, axis=0)
    print(f"ours / LoadGen, medians of {len(ratios)} rounds: p50 {p50:.3f}, p99 {p99:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
