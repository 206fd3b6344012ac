"""A server whose file descriptors are all taken by connections."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.serving.servers import Process, Start

LIMIT = 80
SECONDS = 2.2  # two more checks, one a second


def test_a_server_without_free_descriptors_logs_it_and_serves_on(
    bundle: Path, start: Start
) -> None:
    with start(bundle, "--threads", "1") as process:
        host, port = process.url.removeprefix("http://").split(":")
        resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        with ExitStack() as connections:
            for _ in range(2 * LIMIT):
                connections.enter_context(socket.create_connection((host, int(port)), timeout=5))
            said = messages(process)
            text = f"no file descriptor is free (Too many open files, limit {LIMIT})"
            assert next(said).startswith(text)
            time.sleep(SECONDS)
        assert next(said).startswith("file descriptors are free again")
        assert httpx.get(f"{process.url}/health/ready").status_code == 200
        process.popen.terminate()
        assert not list(said)


def messages(process: Process) -> Iterator[str]:
    """Yield the warnings and errors that a server logs, until it ends."""
    assert process.popen.stderr is not None
    for line in map(json.loads, process.popen.stderr):
        if line["level"] in ("warning", "error"):
            yield line["message"]
