"""Calls over real sockets: answers in every form of a request, flow control, ends."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from h2.errors import ErrorCodes
from hpack import NeverIndexedHeaderTuple

from serving.grpc.http2.connection import Connection
from tests.serving.grpc.http2 import frames as f
from tests.serving.grpc.http2.client import (
    HEAD,
    NEVER,
    OPEN,
    RawClient,
    Served,
    call,
    each_of,
    prefixed,
    served,
)
from tests.serving.servers import WaitUntil

LARGE = bytes(range(256)) * 8000  # 2 MB, of which a window has half


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[RawClient]:
    with RawClient(server.port) as made:
        yield made


def data(stream: int, part: bytes, flags: int = 0) -> bytes:
    return f.frame(f.DATA, flags, stream, part)


def test_a_message_is_read_in_any_frames(client: RawClient) -> None:
    message = prefixed(b"hello")
    padded = b"\x03" + b"\0\0\0\0\x10" + HEAD + bytes(3)
    block, flags = HEAD[:9], f.END_HEADERS | f.PADDED | f.PRIORITIZED
    requests = [
        f.frame(f.HEADERS, OPEN, 1, HEAD) + data(1, message, f.END_STREAM),
        f.frame(f.HEADERS, OPEN, 3, HEAD)
        + b"".join(data(3, bytes((each,))) for each in message)
        + data(3, b"", f.END_STREAM),
        f.frame(f.HEADERS, flags, 5, padded)
        + data(5, b"\x02" + message + bytes(2), f.END_STREAM | f.PADDED),
        f.frame(f.HEADERS, 0, 7, block)
        + f.frame(f.CONTINUATION, f.END_HEADERS, 7, HEAD[9:])
        + data(7, message, f.END_STREAM),
        f.frame(f.HEADERS, OPEN, 9, HEAD)
        + data(9, message)
        + f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 9, f.encode((b"a", b"trailer"))),
    ]
    for number, request in enumerate(requests):
        stream = 2 * number + 1
        client.send(request)
        headers, found = client.answer(stream)
        assert (headers[b"grpc-status"], found) == (b"0", message), stream
    together = b"".join(call(11 + 2 * n) for n in range(200))
    for byte in together[:64]:
        client.send(bytes((byte,)))
    client.send(together[64:])
    assert client.answer(11 + 2 * 199)[1] == message


def test_a_large_message_comes_and_goes_within_the_windows(server: Served) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert channel.unary_unary("/echo")(LARGE, timeout=30) == LARGE


def test_a_response_waits_for_the_windows_of_its_client(server: Served) -> None:
    tiny = f.setting.pack(f.INITIAL_WINDOW_SIZE, 4)
    with RawClient(server.port, tiny) as client:
        client.send(call(1) + call(3))
        first = client.until(f.DATA, 3)
        assert first.payload == prefixed(b"hello")[:4]
        client.send(f.window_frame(3, 3))
        assert client.until(f.DATA, 3).payload == prefixed(b"hello")[4:7]
        client.send(f.frame(f.SETTINGS, 0, 0, f.setting.pack(f.INITIAL_WINDOW_SIZE, 100)))
        assert client.answer(3)[1] == prefixed(b"hello")[7:]
        client.send(call(5))
        assert client.answer(5)[1] == prefixed(b"hello")


def test_pings_are_answered(client: RawClient) -> None:
    client.send(f.frame(f.PING, 0, 0, b"12345678"))
    assert client.until(f.PING).payload == b"12345678"


def test_a_call_ends_at_its_deadline_or_when_its_client_resets_it(
    server: Served, client: RawClient, wait_until: WaitUntil
) -> None:
    before = server.methods.cancelled
    client.send(call(1, b"", NEVER, (b"grpc-timeout", b"20m")))
    assert client.answer(1)[0][b"grpc-status"] == b"4"
    client.send(call(3, b"", NEVER) + f.reset_frame(3, ErrorCodes.CANCEL))
    wait_until(lambda: server.methods.cancelled == before + 2)
    client.send(call(5, b"", NEVER))
    wait_until(lambda: server.shared.calls == 1)
    client.socket.close()
    wait_until(lambda: server.methods.cancelled == before + 3)
    wait_until(lambda: server.shared.calls == 0)


def test_a_message_that_does_not_arrive_in_time_ends_its_call(
    server: Served, client: RawClient, wait_until: WaitUntil
) -> None:
    client.send(f.frame(f.HEADERS, OPEN, 1, HEAD) + data(1, prefixed(b"hello")[:8]))
    headers, _ = client.answer(1)
    assert headers[b"grpc-status"] == b"4"
    assert headers[b"grpc-message"].startswith(b"the message took more than 0.3 s")
    assert client.until(f.RST_STREAM, 1).payload == bytes(4)
    client.send(data(1, prefixed(b"hello")[8:], f.END_STREAM) + call(3))
    assert client.answer(3)[0][b"grpc-status"] == b"0"
    wait_until(lambda: server.shared.held.bytes == 0)


def test_a_client_that_leaves_gets_its_answers(server: Served) -> None:
    with RawClient(server.port) as client:
        client.send(f.frame(f.HEADERS, OPEN, 1, HEAD) + f.frame(f.GOAWAY, 0, 0, bytes(8)))
        client.send(data(1, prefixed(b"hello"), f.END_STREAM))
        assert client.answer(1)[1] == prefixed(b"hello")
        assert not [*client.frames()]


def test_the_text_of_an_error_is_kept_in_no_table(client: RawClient) -> None:
    client.send(call(1, b"", b"/unknown"))
    headers = next(each.headers for each in client.frames() if each.kind == f.HEADERS)
    text = next(each for each in headers if each[0] == b"grpc-message")
    assert isinstance(text, NeverIndexedHeaderTuple)
    assert text[1] == b"%C3%A9%25 is not served"


def test_a_connection_that_leaves_ends_its_calls_and_takes_no_other(wait_until: WaitUntil) -> None:
    with served() as server, RawClient(server.port) as client:
        client.send(call(1, b"", NEVER) + f.frame(f.HEADERS, OPEN, 3, HEAD))
        wait_until(lambda: server.shared.calls == 2)
        server.run(lambda: each_of(server.shared, Connection.leave))
        assert client.until(f.GOAWAY).payload == bytes((0, 0, 0, 3, 0, 0, 0, 0))
        client.send(call(5) + data(3, prefixed(b"hello"), f.END_STREAM))
        assert client.answer(3)[1] == prefixed(b"hello")
        client.send(f.reset_frame(1, ErrorCodes.CANCEL))
        assert not [*client.frames()]
        assert server.shared.calls == 0
