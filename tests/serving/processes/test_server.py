"""Two worker processes of `python -m serving` under load."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.processes.addresses import listen
from tests.serving.engines import MakeImages
from tests.serving.servers import Encode, Process, Start, WaitUntil, refused

BUDGETS = ("low", "medium", "full")
SLOTS = 64  # of each worker


@dataclass
class Client:
    """A client with many connections, which counts the results of its calls."""

    url: str
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)  # by budget and exit
    flops: int = 0
    refusals: int = 0
    failures: int = 0

    async def load(self, images: Sequence[bytes], rounds: int, concurrency: int = 24) -> None:
        """Send every image and one body that is not an image, at every budget, `rounds` times."""
        bodies = [*images, b"?"]
        todo = [(budget, body) for budget in BUDGETS for body in bodies for _ in range(rounds)]
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, timeout=60) as http:
            gate = asyncio.Semaphore(concurrency)
            await asyncio.gather(*(self._call(http, gate, *call) for call in todo))

    async def _call(
        self, http: httpx.AsyncClient, gate: asyncio.Semaphore, budget: str, body: bytes
    ) -> None:
        async with gate:
            try:
                response = await http.post("/classify", params={"budget": budget}, content=body)
            except httpx.TransportError:
                self.failures += 1
                return
        if response.status_code == 415:
            self.refusals += 1
            return
        (answer,) = response.raise_for_status().json()["answers"]
        self.answers[budget, answer["exit"]] += 1
        self.flops += answer["flops"]


class Samples:
    """The samples of a scrape, over a connection of its own."""

    def __init__(self, url: str) -> None:
        families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=60).text)
        self.all = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of all samples with this name and these labels."""
        return sum(
            s.value
            for s in self.all
            if s.name == f"offramp_{name}" and labels.items() <= s.labels.items()
        )

    def process(self, name: str) -> float:
        """Return the value of a metric of all processes together."""
        (value,) = [s.value for s in self.all if s.name == f"process_{name}"]
        return float(value)

    @property
    def answered(self) -> float:
        return self("requests_total", outcome="answered")

    @property
    def problems(self) -> float:
        return self("problems_total", type="not-an-image")

    @property
    def exits(self) -> Counter[tuple[str, int]]:
        taken = (s for s in self.all if s.name == "offramp_exits_total")
        return Counter({(s.labels["budget"], int(s.labels["exit"])): int(s.value) for s in taken})


@pytest.fixture(scope="module")
def pictures(images: MakeImages, encode: Encode) -> list[bytes]:
    return [encode(image) for image in images(20, 3)]


@pytest.fixture(scope="module")
def grpc_port() -> int | None:
    """Return a free port, or `None` if gRPC is not installed."""
    if find_spec("grpc") is None:
        return None
    with listen("127.0.0.1", 0) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def pair(bundle: Path, start: Start, grpc_port: int | None) -> Iterator[Process]:
    options = ["--workers", "2", "--threads", "1"]
    options += ["--grpc-port", str(grpc_port)] if grpc_port else []
    with start(bundle, *options, OFFRAMP_SLOTS=str(SLOTS)) as process:
        yield process


def state(pid: int) -> list[str]:
    """Return the fields of a process's state, from the third. It is empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # before or while it is read
        return []


def ticks(pid: int) -> int:
    """Return the CPU time so far."""
    return sum(map(int, state(pid)[11:13]))


def test_any_worker_reports_every_request_of_both(
    pair: Process, pictures: list[bytes], wait_until: WaitUntil
) -> None:
    assert "2 workers of 1 threads, 64 slots" in pair.banner
    before, busy = Samples(pair.url), {pid: ticks(pid) for pid in pair.workers}
    client = Client(pair.url)
    asyncio.run(client.load(pictures, rounds=3))
    assert all(ticks(pid) > was for pid, was in busy.items())  # both worked
    assert (client.answers.total(), client.refusals, client.failures) == (180, 9, 0)
    for _ in range(8):  # either worker can get the call
        after = Samples(pair.url)
        assert after.exits - before.exits == client.answers
        assert after.answered - before.answered == 180
        for name in ("request_seconds_count", "confidence_count"):
            assert after(name) - before(name) == 180
        assert after("flops_spent_total") - before("flops_spent_total") == client.flops
        assert after.problems - before.problems == 9
        assert after("workers") == 2
    wait_until(lambda: Samples(pair.url)("slots_in_use") == 0)


def test_both_workers_answer_on_one_port_of_grpc(pair: Process, grpc_port: int | None) -> None:
    grpc = pytest.importorskip("grpc")
    busy = {pid: ticks(pid) for pid in pair.workers}
    number = 0
    while any(ticks(pid) == was for pid, was in busy.items()):
        number += 1  # other options make another connection, which reaches either worker
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}", [("test.number", number)]) as channel:
            for _ in range(20):
                call = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
                assert call(b"", timeout=30, wait_for_ready=True) == b"\x08\x01"
    assert pair.popen.poll() is None


def test_memory_and_processor_time_are_those_of_all_processes(pair: Process) -> None:
    processes = [pair.popen.pid, *pair.workers]
    samples, page = Samples(pair.url), os.sysconf("SC_PAGE_SIZE")
    resident = sum(int(state(pid)[21]) * page for pid in processes)
    assert 0.9 < samples.process("resident_memory_bytes") / resident < 1.1
    spent = sum(map(ticks, processes)) / os.sysconf("SC_CLK_TCK")
    assert 0.9 * spent < samples.process("cpu_seconds_total") <= spent + 1
    assert samples.process("open_fds") > 3 * 5
    started = float(Path(f"/proc/{pair.popen.pid}/stat").read_text().rpartition(")")[2].split()[19])
    booted = float(Path("/proc/stat").read_text().split("btime ")[1].split()[0])
    assert samples.process("start_time_seconds") == booted + started / os.sysconf("SC_CLK_TCK")


def test_a_killed_worker_is_replaced_and_no_count_is_lost(
    pair: Process, pictures: list[bytes], wait_until: WaitUntil
) -> None:
    client, victim = Client(pair.url), pair.workers[0]
    before = Samples(pair.url)
    seen: list[tuple[int, float, float]] = []
    busy = [before.process("cpu_seconds_total")]

    async def until(condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(0.005)

    async def kill_on_the_way() -> None:
        load = asyncio.create_task(client.load(pictures, rounds=8))
        await until(lambda: client.answers.total() >= 100)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: not state(victim))
        while not load.done():
            ready = await asyncio.to_thread(httpx.get, f"{pair.url}/health/ready", timeout=60)
            samples = await asyncio.to_thread(Samples, pair.url)
            seen.append((ready.status_code, samples("workers"), samples("slots")))
            busy.append(samples.process("cpu_seconds_total"))
        await load

    asyncio.run(kill_on_the_way())
    assert {status for status, _, _ in seen} == {200}
    assert seen[0][1:] == (1, SLOTS)  # the slots of the dead worker do not count
    assert busy == sorted(busy)  # its CPU time does
    wait_until(lambda: Samples(pair.url)("workers") == 2, 60)
    after = Samples(pair.url)
    assert after("slots") == 2 * SLOTS
    answered = client.answers.total()
    assert answered + client.refusals + client.failures == 8 * 3 * 21
    assert client.failures <= 24  # requests that it held
    assert answered <= after.answered - before.answered <= answered + client.failures
    asyncio.run(client.load(pictures, rounds=1))
    assert Samples(pair.url).answered - after.answered == client.answers.total() - answered == 60


def test_sigterm_ends_all_after_the_calls_under_way(
    bundle: Path, start: Start, pictures: list[bytes], wait_until: WaitUntil
) -> None:
    body = pictures[0]
    with start(bundle, "--workers", "2", "--threads", "1") as pair:
        workers = pair.workers
        host, port = pair.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            raw.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 100"), "a worker begins to read the body"
            raw.sendall(body[:50])
            pair.popen.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(host, port))
            raw.sendall(body[50:])
            assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        assert pair.popen.wait(20) == 0
        assert pair.popen.stderr is not None
        log = pair.popen.stderr.read()
    assert "Traceback" not in log
    assert all(line.startswith('{"time"') for line in log.splitlines())
    assert [state(pid) for pid in workers] == [[], []]
