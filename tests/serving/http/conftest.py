"""Servers for tests: one with a key and few slots for the fast path, one that promises."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.http.app import Offramp
from serving.http.connection import Reply, RequestHead
from tests.serving.http.raw import KEY, Connect, Taken
from tests.serving.servers import GatedRuntime, Running, serving
from tests.serving.small_bundle import png, random_images


@pytest.fixture(scope="module")
def fast_server(bundle: Path) -> Iterator[Running]:
    with serving(bundle, slots=8, max_body_bytes=60_000, max_images=3, api_key=KEY) as running:
        yield running


@pytest.fixture
def connect(fast_server: Running) -> Connect:
    return lambda: socket.create_connection(("127.0.0.1", fast_server.port), timeout=20)


@pytest.fixture
def taken(fast_server: Running, monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Record whether the fast path took each request offered to it, in order."""
    taken: Taken = []
    app = fast_server.app
    assert isinstance(app, Offramp)
    start = app.fast_path.start

    def watched(head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        taken.append(None)  # before an answer is possible
        future = start(head, body, reply)
        taken[-1] = future is not None
        return future

    monkeypatch.setattr(app.fast_path, "start", watched)
    return taken


@pytest.fixture(scope="module")
def promising(promise_bundle: Path) -> Iterator[Running]:
    with serving(promise_bundle) as running:
        yield running


@pytest.fixture(scope="module")
def asking(promising: Running) -> Iterator[httpx.Client]:
    with promising.client as client:
        yield client


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return png(random_images(1, 0)[0], "JPEG")


@pytest.fixture
def shut(fast_server: Running, gated: GatedRuntime) -> Iterator[GatedRuntime]:
    """Let the batches of the first stage wait. The server keeps this runtime, open."""
    fast_server.gate(gated)
    gated.shut(0)
    yield gated
    gated.open()
