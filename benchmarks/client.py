"""Run a real server in a separate process and send it many images."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import httpx

if TYPE_CHECKING:  # Ray's environment has no torch
    from training.data.images import File

STARTED = re.compile(r"at (http://[^\s\"]+)")


@contextmanager
def serving(folder: Path, *options: str, kind: str = "--bundle") -> Iterator[str]:
    """Run `python -m serving` on a free loopback port, yield its URL, and stop it at the end.

    Args:
        folder: The bundle, or a folder of models with `kind="--models"`.
        options: Further options.
        kind: The option that takes the folder.

    Raises:
        RuntimeError: The server did not start.
    """
    command = [sys.executable, "-m", "serving", kind, str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if started := STARTED.search(line):
                    yield started.group(1)
                    break
            else:
                raise RuntimeError(f"the server did not start: {' '.join(command)}")
        finally:
            process.terminate()
            process.stderr.read()


@dataclass(frozen=True, slots=True)
class Served:
    """The server's answer for one image.

    Attributes:
        exit: Number of the exit taken, from 1.
        flops: Multiply-adds that were run.
        right: Correctness of the class, one value. With `explain`, one value for each exit passed.
            The server then evaluates all of these exits, which costs more flops.
        probability: Probability of the class, in [0, 1].
    """

    exit: int
    flops: int
    right: tuple[bool, ...]
    probability: float


def classify(
    url: str, files: Sequence[File], query: dict[str, str], concurrency: int = 32
) -> list[Served]:
    """Send one request for each file, at most `concurrency` at a time, each by a thread.

    Returns:
        The answers, in the order of the files.

    Raises:
        RuntimeError: The server returned an error.
    """
    address = urlsplit(url).netloc
    path = f"/classify?{urlencode(query)}"
    idle: SimpleQueue[HTTPConnection] = SimpleQueue()
    with ExitStack() as opened, ThreadPoolExecutor(concurrency) as pool:
        for _ in range(concurrency):
            idle.put(opened.enter_context(closing(HTTPConnection(address, timeout=60))))

        def send(file: File) -> Served:
            connection = idle.get()
            try:
                return _answer(connection, path, file)
            finally:
                idle.put(connection)

        return list(pool.map(send, files))


def _answer(connection: HTTPConnection, path: str, file: File) -> Served:
    connection.request("POST", path, file.encoded)
    response = connection.getresponse()
    body = response.read()
    if response.status != HTTPStatus.OK:
        raise RuntimeError(f"{path}: {response.status} {body.decode()}")
    answer: dict[str, Any] = json.loads(body)["answers"][0]
    right = tuple(exit_["index"] == file.target for exit_ in answer.get("explain", [answer]))
    return Served(answer["exit"], answer["flops"], right, answer["probability"])


def counters(url: str) -> dict[str, float]:
    """Return the samples of `/metrics`, by name and labels as written there."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}
