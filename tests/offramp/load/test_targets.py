"""Requests to servers that are not ours: one that answers as their protocol says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest

from offramp.errors import TransportError, UsageError
from offramp.load.bodies import LENGTH
from offramp.load.outcomes import closed
from offramp.load.sender import Load, send
from offramp.load.targets import TargetError, Wanted, address_of, find_target

METADATA = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 4]}], "outputs": []}
OUTPUTS = {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.9]}]}


@contextmanager
def foreign(metadata: object, index: object = None) -> Iterator[tuple[str, list[Any]]]:
    """Run a server of the inference protocol. Yield its URL, and the tensors that it receives."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(metadata if self.path == "/base/v2/models/net" else None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/index"):
                self.reply(index)
                return
            size = int(self.headers.get(LENGTH, len(body)))
            tensor = json.loads(body[:size])["inputs"][0]
            if "data" not in tensor:
                assert tensor["parameters"]["binary_data_size"] == len(body) - size
                tensor["data"] = np.frombuffer(body[size:], "<f4").tolist()
            received.append(tensor)
            self.reply(OUTPUTS)

        def reply(self, data: object) -> None:
            content = json.dumps(data).encode()
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/base/", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("encoding", ["binary", "json"])
def test_a_tensor_of_numbers_has_the_shape_that_the_model_states(encoding: Any) -> None:
    with foreign(METADATA, [{"name": "net"}]) as (url, received):
        address = address_of(url, {})
        target = find_target(address, "auto", Wanted(encoding=encoding))
        plan = closed(target.path, 3, len(target.bodies), np.random.default_rng(0))
        load = Load(address.port, 1, headers=target.headers)
        found = send(target.bodies, plan, load, target.read).outcomes
    assert (target.protocol, target.model) == ("oip", "net")
    assert found.status.tolist() == [200, 200, 200]
    assert found.exit.tolist() == [-1, -1, -1]
    for tensor in received:
        assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("x", "FP32", [1, 3, 4])
        assert len(tensor["data"]) == 12
        assert all(0 <= value < 1 for value in tensor["data"])


@pytest.mark.parametrize(
    ("metadata", "index", "wanted", "says"),
    [
        (METADATA, None, Wanted(), "lists no models"),
        (METADATA, [{"name": "a"}, {"name": "b"}, {"name": "b"}], Wanted(), "has a, b"),
        (METADATA, ["a"], Wanted(), "unknown form"),
        ({"inputs": ["x"]}, None, Wanted(model="net"), "unknown form"),
        ({"inputs": [{"name": "x"}]}, None, Wanted(model="net"), "unknown form"),
        (METADATA, None, Wanted(model="other"), "no model other"),
        (METADATA, None, Wanted(model="mod\u00e8le/x"), "no model mod\u00e8le/x"),
        (METADATA, None, Wanted(model="net", files=[b"?"]), "image files are sent as BYTES"),
        ({"inputs": METADATA["inputs"] * 2}, None, Wanted(model="net"), "2 inputs"),
        (
            {"inputs": [{"name": "x", "datatype": "BF16", "shape": [1]}]},
            None,
            Wanted(model="net"),
            "BF16; it is not supported",
        ),
    ],
)
def test_a_model_that_takes_no_single_image_is_named(
    metadata: object, index: object, wanted: Wanted, says: str
) -> None:
    with foreign(metadata, index) as (url, _), pytest.raises(TargetError, match=says):
        find_target(address_of(url, {}), "oip", wanted)


def test_a_model_with_two_versions_is_one_model() -> None:
    with foreign(METADATA, [{"name": "net"}, {"name": "net"}]) as (url, _):
        assert find_target(address_of(url, {}), "auto", Wanted()).model == "net"


def test_the_native_protocol_takes_no_name_of_a_model() -> None:
    with foreign(METADATA) as (url, _), pytest.raises(UsageError, match="--model is for the Open"):
        find_target(address_of(url, {}), "native", Wanted(model="net"))


def test_an_address_has_host_port_and_root() -> None:
    found = address_of("https://[::1]/a/b/", {})
    assert (found.host, found.port, found.tls, found.root) == ("[::1]", 443, True, "/a/b")
    assert address_of("localhost:8000", {}).port == 8000
    for url in ("http://", "ws://x", "http://x?y", "http://x:port"):
        with pytest.raises(TargetError):
            address_of(url, {})


def test_an_error_of_the_server_is_not_a_missing_path() -> None:
    with foreign(METADATA) as (url, _):
        address = address_of(url, {})
        assert address.get("/nowhere") is None
    for unreachable in (address, address_of("http://a..b", {})):
        with pytest.raises(TransportError, match="cannot be reached"):
            unreachable.get("/model")
