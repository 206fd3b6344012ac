"""A gRPC server beside HTTP, and a channel to it. Without the extra `grpc` nothing is collected."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.serving.servers import Running, serving

collect_ignore_glob = [] if find_spec("grpc") else ["test_*.py"]


@pytest.fixture(scope="module")
def grpc_server(bundle: Path) -> Iterator[Running]:
    with serving(bundle, grpc_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def channel(grpc_server: Running) -> Iterator[Any]:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{grpc_server.grpc_port}") as channel:
        yield channel
