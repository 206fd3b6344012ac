from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from serving.http.connection import protocol
from tests.serving.servers import Running

Connect = Callable[[], socket.socket]
HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def connect(server: Running, monkeypatch: pytest.MonkeyPatch) -> Connect:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    return lambda: socket.create_connection(("127.0.0.1", server.port), timeout=10)


def until_closed(client: socket.socket) -> None:
    assert client.recv(1) == b""


def test_nothing_and_a_head_without_end_close_the_connection(connect: Connect) -> None:
    start = time.monotonic()
    with connect() as silent, connect() as client:
        client.sendall(HEAD[:-2])
        for each in (silent, client):
            until_closed(each)
            assert 0.2 < time.monotonic() - start < 8


def trickle(client: socket.socket, seconds: float) -> None:
    client.sendall(HEAD[:-2])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.sendall(b"x")
        time.sleep(0.02)


def test_single_bytes_do_not_extend_the_time_of_a_head(connect: Connect) -> None:
    with connect() as client, pytest.raises(ConnectionError):
        trickle(client, 5)


def test_a_second_head_has_the_same_time_from_its_first_byte(connect: Connect) -> None:
    begun = (HEAD[:9], b"\r\n")  # a part of a head, and none of it
    with connect() as one, connect() as other:
        for _ in range(3):  # idle between requests for longer than the limit of a head
            for client in (one, other):
                client.sendall(HEAD)
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.6)
        start = time.monotonic()
        for client, begin in zip((one, other), begun, strict=True):
            client.sendall(begin)
        for client in (one, other):
            until_closed(client)
            assert 0.2 < time.monotonic() - start < 8


def test_the_time_of_a_head_does_not_limit_a_slow_body(connect: Connect) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    with connect() as client:
        client.sendall(head[:-2])
        client.sendall(head[-2:])
        time.sleep(0.6)
        client.sendall(b"none")
        assert client.recv(4096).startswith(b"HTTP/1.1 415")
