"""Two workers of `python -m serving`, really started, under load."""

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.processes.server import listen, reserve

BUDGETS = ("low", "medium", "full")
SLOTS = 64  # of each worker


@dataclass
class Client:
    """Sends calls over many connections, and counts what became of them."""

    url: str
    answers: Counter = field(default_factory=Counter)  # by budget and exit
    flops: int = 0
    refusals: int = 0
    failures: int = 0

    async def load(self, images, rounds, concurrency=24) -> None:
        """Every image at every budget, `rounds` times, and as often a body that is none."""
        bodies = [*images, b"?"]
        todo = [(budget, body) for budget in BUDGETS for body in bodies for _ in range(rounds)]
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, timeout=60) as http:
            gate = asyncio.Semaphore(concurrency)
            await asyncio.gather(*(self._call(http, gate, *call) for call in todo))

    async def _call(self, http, gate, budget, body) -> None:
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
    """A scrape, over a connection of its own."""

    def __init__(self, url) -> None:
        families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=60).text)
        self.all = [sample for family in families for sample in family.samples]

    def __call__(self, name, **labels):
        """The sum of all samples of this name and these labels."""
        return sum(
            s.value
            for s in self.all
            if s.name == f"offramp_{name}" and labels.items() <= s.labels.items()
        )

    def process(self, name):
        """What is said of all processes together."""
        (value,) = [s.value for s in self.all if s.name == f"process_{name}"]
        return value

    @property
    def answered(self):
        return self("requests_total", outcome="answered")

    @property
    def problems(self):
        return self("problems_total", type="not-an-image")

    @property
    def exits(self):
        taken = (s for s in self.all if s.name == "offramp_exits_total")
        return Counter({(s.labels["budget"], int(s.labels["exit"])): s.value for s in taken})


@pytest.fixture(scope="module")
def pictures(images, encode):
    return [encode(image) for image in images(20, 3)]


@pytest.fixture(scope="module")
def pair(bundle, start):
    with start(bundle, "--workers", "2", "--threads", "1", OFFRAMP_SLOTS=str(SLOTS)) as process:
        yield process


def state(pid):
    """The fields of a process's state, from the third; none once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None


def ticks(pid):
    """CPU time so far."""
    return sum(map(int, state(pid)[11:13]))


def refused(host, port):
    """Whether nobody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def test_any_worker_counts_for_both_to_the_request(pair, pictures, wait_until) -> None:
    assert "2 workers of 1 threads, 64 slots" in pair.banner
    before, busy = Samples(pair.url), {pid: ticks(pid) for pid in pair.workers}
    client = Client(pair.url)
    asyncio.run(client.load(pictures, rounds=3))
    assert all(ticks(pid) > was for pid, was in busy.items())  # both had their share
    assert (client.answers.total(), client.refusals, client.failures) == (180, 9, 0)
    for _ in range(8):  # whichever worker it comes to
        after = Samples(pair.url)
        assert after.exits - before.exits == client.answers
        assert after.answered - before.answered == 180
        for name in ("request_seconds_count", "confidence_count"):
            assert after(name) - before(name) == 180
        assert after("flops_spent_total") - before("flops_spent_total") == client.flops
        assert after.problems - before.problems == 9
        assert after("workers") == 2
    wait_until(lambda: Samples(pair.url)("slots_in_use") == 0)


def test_memory_and_processor_time_are_those_of_all_processes(pair) -> None:
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


def test_one_is_killed_and_all_is_well(pair, pictures, wait_until) -> None:
    client, victim = Client(pair.url), pair.workers[0]
    before = Samples(pair.url)
    seen, busy = [], [before.process("cpu_seconds_total")]

    async def until(condition) -> None:
        while not condition():  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(0.005)

    async def kill_on_the_way() -> None:
        load = asyncio.create_task(client.load(pictures, rounds=8))
        await until(lambda: client.answers.total() >= 100)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: state(victim) is None)
        while not load.done():
            ready = await asyncio.to_thread(httpx.get, f"{pair.url}/health/ready", timeout=60)
            samples = await asyncio.to_thread(Samples, pair.url)
            seen.append((ready.status_code, samples("workers"), samples("slots")))
            busy.append(samples.process("cpu_seconds_total"))
        await load

    asyncio.run(kill_on_the_way())
    assert {status for status, _, _ in seen} == {200}
    assert seen[0][1:] == (1, SLOTS)  # what the dead one held is gone
    assert busy == sorted(busy)  # what it spent is not
    wait_until(lambda: Samples(pair.url)("workers") == 2, 60)
    after = Samples(pair.url)
    assert after("slots") == 2 * SLOTS
    answered = client.answers.total()
    assert answered + client.refusals + client.failures == 8 * 3 * 21
    assert client.failures <= 24  # what was in its hands
    assert answered <= after.answered - before.answered <= answered + client.failures
    asyncio.run(client.load(pictures, rounds=1))
    assert Samples(pair.url).answered - after.answered == client.answers.total() - answered == 60


def test_sigterm_ends_all_after_the_calls_under_way(bundle, start, pictures, wait_until) -> None:
    body = pictures[0]
    with start(bundle, "--workers", "2", "--threads", "1") as pair:
        workers = pair.workers
        host, port = pair.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body[:50])
            time.sleep(0.3)  # one of them begins to read it
            pair.popen.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(host, port))
            raw.sendall(body[50:])
            assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        assert pair.popen.wait(20) == 0
        log = pair.popen.stderr.read()
    assert "Traceback" not in log
    assert all(line.startswith('{"time"') for line in log.splitlines())
    assert [state(pid) for pid in workers] == [None, None]


@pytest.mark.parametrize("shared", [False, True])
def test_an_address_is_not_shared_with_another_server(shared) -> None:
    with listen("127.0.0.1", 0, shared=shared) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}"):
            reserve("127.0.0.1", port)


def test_a_reserved_address_is_for_several_and_takes_no_connection_itself() -> None:
    with reserve("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
        assert refused("127.0.0.1", port)
        with (
            listen("127.0.0.1", port, shared=True),
            listen("127.0.0.1", port, shared=True),
            socket.create_connection(("127.0.0.1", port)),
        ):
            pass
