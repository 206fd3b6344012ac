"""Real processes with a fault: they end by themselves, in time, and with a code that says so."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from signal import SIGINT, SIGTERM

import httpx
import pytest

from offramp.bundle.manifest import Manifest
from serving.processes.addresses import reserve
from serving.processes.server import GRACE
from serving.processes.supervisor import Supervisor
from serving.settings import Settings
from tests.serving import faulty
from tests.serving.engines import MakeImages
from tests.serving.servers import Encode, Process, started

SLACK = 15.0  # seconds that this machine can be late; a hung thread hangs for an hour
MODULE = "tests.serving.faulty"


@contextmanager
def faulty_server(bundle: Path, fault: str, *flags: str) -> Iterator[Process]:
    with started(bundle, *flags, module=(MODULE, fault)) as process:
        yield process


def send(url: str, body: bytes, count: int) -> list[int]:
    """Send calls at the same time. Return the status of each, and 0 for one without an answer."""

    async def one(client: httpx.AsyncClient) -> int:
        try:
            return (await client.post("/classify?budget=full", content=body)).status_code
        except httpx.TransportError:
            return 0

    async def run() -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            return await asyncio.gather(*(one(client) for _ in range(count)))

    return asyncio.run(run())


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("fault", ["schedule", "update", "batch metric"])
def test_a_server_that_breaks_answers_all_requests_and_exits_non_zero(
    bundle: Path, images: MakeImages, encode: Encode, fault: str, threads: str
) -> None:
    flags = ("--threads", threads, "--max-batch", "2", "--drain-seconds", "60")
    with faulty_server(bundle, fault, *flags) as process:
        begun = time.monotonic()
        statuses = send(process.url, encode(images(1, 0)[0]), 16)
        assert set(statuses) <= {500, 503}
        assert 500 in statuses
        assert process.popen.wait(60 + GRACE + SLACK) == 1
        assert time.monotonic() - begun < 30
        assert process.popen.stderr is not None
        log = process.popen.stderr.read()
    assert "a stage thread broke, the server ends" in log
    (last,) = [line for line in log.splitlines() if line.startswith("error: ")]
    assert faulty.TEXT in last


@pytest.mark.parametrize("fault", ["runtime", "answer metric"])
def test_a_server_with_a_fault_of_one_batch_or_request_serves_on(
    bundle: Path, images: MakeImages, encode: Encode, fault: str
) -> None:
    expected = {"runtime": 500, "answer metric": 200}[fault]
    with faulty_server(bundle, fault, "--threads", "2") as process:
        for _ in range(2):
            assert set(send(process.url, encode(images(1, 0)[0]), 8)) == {expected}
        assert httpx.get(f"{process.url}/health/ready").status_code == 200
        process.popen.send_signal(SIGTERM)
        assert process.popen.wait(30) in (0, -SIGTERM)


HUNG = list(product((("hung stage", "JPEG"), ("hung decoder", "PNG")), (SIGTERM, SIGINT)))


def test_a_server_with_a_thread_that_hangs_ends_in_its_time(
    bundle: Path, images: MakeImages, encode: Encode
) -> None:
    """Four servers take their time together."""
    flags, image = ("--threads", "1", "--drain-seconds", "1"), images(1, 0)[0]
    with ExitStack() as servers:
        processes, clients = [], []
        for (fault, form), _ in HUNG:
            server = servers.enter_context(faulty_server(bundle, fault, *flags))
            sent = (server.url, encode(image, form), 2)
            clients += [threading.Thread(target=send, args=sent) for _ in range(2)]
            processes.append(server.popen)
        for client in clients:
            client.start()
        time.sleep(0.5)
        begun = time.monotonic()
        for process, (_, number) in zip(processes, HUNG, strict=True):
            process.send_signal(number)
        for process in processes:
            process.wait(30)
            assert time.monotonic() - begun < 1 + GRACE + SLACK
        for client in clients:
            client.join(30)


def test_a_worker_that_breaks_is_replaced_and_the_log_says_why(
    bundle: Path,
    manifest: Manifest,
    images: MakeImages,
    encode: Encode,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(bundle=bundle, threads=1, drain_seconds=5)
    body, buried = encode(images(1, 0)[0]), list[int]()
    seen: list[list[int]] = []
    with reserve("127.0.0.1", 0) as place:
        port = place.getsockname()[1]

        def use() -> None:
            try:
                seen.append(send(f"http://127.0.0.1:{port}", body, 4))
                deadline = time.monotonic() + 60
                while seen[-1] != [200] and time.monotonic() < deadline:
                    time.sleep(0.2)
                    seen.append(send(f"http://127.0.0.1:{port}", body, 1))
            finally:
                os.kill(os.getpid(), SIGTERM)

        job = partial(faulty.work_faulty_once, settings, manifest, (port, None), tmp_path)
        Supervisor(job, 1, 20, buried.append).run(lambda: threading.Thread(target=use).start())
    assert 500 in seen[0]
    assert set(seen[0]) <= {500, 503}
    assert seen[-1] == [200]
    assert buried == [0]
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message.startswith("worker 0 ended with 1 (the engine broke (FaultError: ")
    assert message.endswith("and is replaced")


def test_the_command_of_the_faulty_server_is_the_real_one() -> None:
    command = [sys.executable, "-m", MODULE, "schedule", "--bundle", "nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "nowhere/manifest.json: cannot be read" in ended.stderr
