"""Pipelined requests on a real connection: answered in order, bounded in number and memory."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from serving.http.connection import Connection
from serving.http.connection.heads import MAX_PIPELINED
from tests.serving.http.raw import exchange, statuses_of
from tests.serving.servers import GatedRuntime, Running
from tests.serving.small_bundle import png, random_images

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWERED = 1 + MAX_PIPELINED  # the first one is not pipelined
PNG = png(random_images(1, 0)[0])
JPEG = png(random_images(1, 0)[0], "JPEG")


def post(body: bytes, query: bytes = b"") -> bytes:
    """Return a request with a body of known length."""
    length = b"Content-Length: %d" % len(body)
    return b"POST /classify%b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (query, length, body)


CHUNKED = (
    b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nnone\r\n0\r\n\r\n"
)
REQUESTS = {
    "get": (LIVE, 200),
    "fast path": (post(JPEG), 200),
    "refused on the fast path": (post(JPEG, b"?colour=red"), 422),
    "other format": (post(PNG), 200),
}


def read_response(file: BinaryIO) -> bytes:
    """Read one response with `Content-Length`, which can come in several parts. Return its head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        assert line.endswith(b"\r\n"), "the connection was closed"
        head += line
    (length,) = re.findall(rb"^content-length: (\d+)\r$", head, re.IGNORECASE | re.MULTILINE)
    assert len(file.read(int(length))) == int(length)
    return head


@pytest.fixture
def client(server: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        yield client


@pytest.mark.parametrize("name", REQUESTS)
def test_so_many_pipelined_requests_are_answered_and_the_last_says_so(
    server: Running, client: socket.socket, name: str
) -> None:
    request, status = REQUESTS[name]
    assert exchange(server.port, request * ANSWERED) == [status] * ANSWERED
    client.sendall(request * (3 * ANSWERED))  # more than the responses that are written
    with client.makefile("rb") as file:
        responses = file.read().split(b"HTTP/1.1 ")[1:]
    assert [int(each[:3]) for each in responses] == [status] * ANSWERED
    closes = [b"\r\nconnection: close\r\n" in each for each in responses]
    assert closes == [False] * MAX_PIPELINED + [True]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_client_that_reads_each_response_is_never_closed(
    client: socket.socket, name: str
) -> None:
    request, status = REQUESTS[name]
    with client.makefile("rb") as file:
        for _ in range(ANSWERED + 50):
            for part in (request[:30], request[30:]):
                client.sendall(part)
            head = read_response(file)
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"connection: close" not in head


def test_the_count_starts_again_once_all_is_answered(client: socket.socket) -> None:
    with client.makefile("rb") as file:
        for _ in range(5):
            client.sendall(LIVE * (ANSWERED // 2))
            found = b""
            while found.count(b"HTTP/1.1 200") < ANSWERED // 2 or not found.endswith(b"}"):
                found += file.read1()
            assert b"connection: close" not in found


def test_requests_behind_a_chunked_body_are_bounded_too(server: Running) -> None:
    most = [415] + [200] * MAX_PIPELINED
    assert exchange(server.port, CHUNKED + LIVE * (MAX_PIPELINED - 1)) == most[:-1]
    assert exchange(server.port, CHUNKED + LIVE * MAX_PIPELINED) == most
    assert exchange(server.port, CHUNKED + LIVE * 3000) == most


def test_a_client_that_writes_many_requests_first_sees_the_responses(
    client: socket.socket,
) -> None:
    client.sendall(LIVE * ((8 << 20) // len(LIVE)))
    assert statuses_of(client) == [200] * ANSWERED


@pytest.mark.parametrize("name", REQUESTS)
def test_pipelined_requests_wait_in_little_memory(
    server: Running, client: socket.socket, gated: GatedRuntime, name: str
) -> None:
    """Send more than the kernel's buffers hold behind a request that is not answered yet."""
    server.gate(gated)
    gated.shut(0)
    client.settimeout(1)
    request, _ = REQUESTS[name]
    with pytest.raises(TimeoutError):
        client.sendall(post(JPEG) + request * ((64 << 20) // len(request)))
    (connection,) = server.server.server_state.connections
    assert isinstance(connection, Connection)
    assert connection.unparsed <= 1 << 20  # a few reads of the event loop
    assert not connection.pipeline
    gated.open()
    client.settimeout(20)
    assert client.recv(9) == b"HTTP/1.1 "


def test_requests_of_other_connections_are_answered_in_between(
    server: Running, client: socket.socket
) -> None:
    client.sendall(REQUESTS["refused on the fast path"][0] * 500)  # refused without a task
    start = time.monotonic()
    assert exchange(server.port, LIVE) == [200]
    assert time.monotonic() - start < 10
    client.shutdown(socket.SHUT_WR)
    assert set(statuses_of(client)) == {422}
