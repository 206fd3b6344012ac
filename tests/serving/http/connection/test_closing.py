"""Clients that write before they read see the response that refuses them."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.http.connection import Connection, closing
from tests.serving.http.raw import answer_of, statuses_of
from tests.serving.servers import Running, serving, until

HEAD = b"POST /classify HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("size", [(16 << 20) + 1, 40 << 20, 100 << 20])
def test_a_client_that_writes_first_sees_413(server: Running, size: int) -> None:
    for _ in range(3):
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        client.request("POST", "/classify", bytes(size))
        assert client.getresponse().status == 413
        client.close()


def test_a_client_that_writes_first_sees_413_for_chunks(server: Running) -> None:
    chunks = (bytes(1 << 18) for _ in range(4 * 40))
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    client.request("POST", "/classify", chunks, encode_chunked=True)
    assert client.getresponse().status == 413
    client.close()


def test_a_client_that_writes_first_sees_429(bundle: Path) -> None:
    largest = 1 << 20
    with serving(bundle, max_body_bytes=largest, max_held_bytes=largest) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, timeout=20) as one:
            one.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(700_000))
            until(lambda: server.app.state.context.body_reader.held == 700_000)
            with socket.create_connection(address, timeout=20) as two:
                two.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(1_000_000))
                time.sleep(0.1)
                two.sendall(b"more")
                assert statuses_of(two) == [429]


def test_a_client_that_writes_first_sees_408(bundle: Path) -> None:
    with (
        serving(bundle, body_seconds=0.3) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as client,
    ):
        reader = server.app.state.context.body_reader
        client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(700_000))
        until(lambda: reader.held)
        until(lambda: not reader.held)  # its time is over
        client.sendall(bytes(300_000))
        assert statuses_of(client) == [408]


@pytest.mark.parametrize("more", ["", "Connection: close\r\n"])
def test_a_client_that_writes_first_sees_the_refusal_of_its_head(
    server: Running, more: str
) -> None:
    head = f"POST /{'x' * 9000} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {30 << 20}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head.encode() + bytes(30 << 20))
        assert statuses_of(client) == [414]


@pytest.mark.parametrize("chunked", [True, False])
def test_what_is_discarded_is_bounded(server: Running, chunked: bool) -> None:
    kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 999999999999"
    block = b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20))
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(HEAD + kind + b"\r\n\r\n")
        with pytest.raises(ConnectionError):
            client.sendall(block * 400)


def test_a_head_without_end_is_cut_off_early(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(HEAD + b"a: ")
        with pytest.raises(ConnectionError):
            client.sendall(b"x" * (32 << 20))


def test_a_client_that_stays_is_closed_in_time(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = closing.LINGER_SECONDS
    monkeypatch.setattr(closing, "LINGER_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(HEAD + b"Content-Length: 99999999\r\n\r\n")
        assert statuses_of(client) == [413]
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            trickle(client)
        assert time.monotonic() - start < before / 2


def trickle(client: socket.socket) -> None:
    while True:
        client.sendall(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize("target", ["/classify?buget=low", "/nowhere"])
def test_a_refusal_of_a_body_that_is_kept_back_closes(server: Running, target: str) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head.encode())
        refusal = http.client.HTTPResponse(client)
        refusal.begin()
        assert refusal.status in (404, 422)
        assert refusal.getheader("connection") == "close"
        refusal.read()
        assert not client.recv(1)


def test_a_body_that_is_asked_for_keeps_the_connection(server: Running) -> None:
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        for _ in range(2):
            client.sendall(head)
            assert client.recv(1 << 12) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"?")
            refusal = http.client.HTTPResponse(client)
            refusal.begin()
            assert (refusal.status, refusal.getheader("connection")) == (415, None)
            refusal.read()


@contextmanager
def not_reading(server: Running) -> Iterator[tuple[socket.socket, Connection]]:
    """Yield a client, and its connection, which waits until it reads."""
    state = server.server.server_state
    until(lambda: not state.connections)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        until(lambda: len(state.connections) == 1)
        (connection,) = state.connections
        assert isinstance(connection, Connection)
        small = socket.SOL_SOCKET, socket.SO_SNDBUF, 4096
        connection.transport.get_extra_info("socket").setsockopt(*small)
        for _ in range(3):  # one more than is written, so that it waits for the client
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        yield client, connection


def test_a_client_that_does_not_read_is_closed(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "UNREAD_SECONDS", 0.3)
    state = server.server.server_state
    with not_reading(server):
        until(lambda: not state.connections)
        until(lambda: not state.tasks)


def test_a_client_that_reads_late_is_not_closed(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "UNREAD_SECONDS", 1.0)
    with not_reading(server) as (client, connection):
        until(lambda: connection.flow.write_paused)
        with client.makefile("rb") as file:
            for _ in range(3):
                answer_of(file)
            time.sleep(1.2)
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_of(file)[0] == 200
