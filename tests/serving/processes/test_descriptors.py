"""A server whose file descriptors are all taken by connections."""

from __future__ import annotations

import json
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.serving.servers import Start

LIMIT = 80
SECONDS = 3.0


def test_a_server_without_free_descriptors_logs_it_and_serves_on(
    bundle: Path, start: Start
) -> None:
    with start(bundle, "--threads", "1") as process:
        host, port = process.url.removeprefix("http://").split(":")
        resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        with ExitStack() as connections:
            for _ in range(2 * LIMIT):
                connections.enter_context(socket.create_connection((host, int(port)), timeout=5))
            time.sleep(SECONDS)
        deadline = time.monotonic() + 15
        while True:
            try:
                assert httpx.get(f"{process.url}/health/ready").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        time.sleep(1.5)
        process.popen.terminate()
        assert process.popen.stderr is not None
        lines = [json.loads(line) for line in process.popen.stderr.read().splitlines()]
    said = [line["message"] for line in lines if line["level"] in ("warning", "error")]
    assert said[0].startswith(f"no file descriptor is free (Too many open files, limit {LIMIT})")
    assert said[1].startswith("file descriptors are free again")
    assert len(said) == 2
