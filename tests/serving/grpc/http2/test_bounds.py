"""Attacks on connections, which cost their client the connection or the call."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.grpc.http2 import frames as f
from tests.serving.grpc.http2.client import (
    CALL,
    HEAD,
    NEVER,
    OPEN,
    WHOLE,
    RawClient,
    Served,
    call,
    prefixed,
    served,
)
from tests.serving.servers import WaitUntil

MANY = 4000
NUMBERS = range(1, 2 * MANY, 2)
OPENED = f.frame(f.HEADERS, OPEN, 1, HEAD)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[RawClient]:
    with RawClient(server.port) as made:
        yield made


def heads(block: bytes = HEAD, flags: int = OPEN) -> Iterator[bytes]:
    return (f.frame(f.HEADERS, flags, number, block) for number in NUMBERS)


def made_resets() -> bytes:
    """Return calls that the server resets, because of a wrong frame each."""
    return b"".join(call(n, b"", NEVER) + f.frame(f.DATA, 0, n, bytes(100)) for n in NUMBERS)


NOT_GRPC = HEAD.replace(b"/echo", b"/nope").replace(b"grpc", b"json")
FLOODS = {
    "pings": MANY * f.frame(f.PING, 0, 0, bytes(8)),
    "resets": b"".join(o + f.reset_frame(n, 8) for o, n in zip(heads(), NUMBERS, strict=True)),
    "resets by the server": made_resets(),
    "settings": MANY * f.frame(f.SETTINGS, 0, 0, bytes(6)),
    "unknown settings": f.frame(
        f.SETTINGS, 0, 0, b"".join(f.setting.pack(99 + n, 1) for n in range(100))
    ),
    "empty data": OPENED + MANY * f.frame(f.DATA, 0, 1),
    "empty continuations": f.frame(f.HEADERS, 0, 1, HEAD) + MANY * f.frame(f.CONTINUATION, 0, 1),
    "long continuations": f.frame(f.HEADERS, 0, 1, HEAD)
    + 10 * f.frame(f.CONTINUATION, 0, 1, bytes(1 << 14)),
    "windows": MANY * f.window_frame(0, 1),
    "windows of ended calls": call(1) + MANY * f.window_frame(1, 1),
    "resets of ended calls": call(1) + MANY * f.reset_frame(1, 8),
    "ends of ended calls": call(1) + MANY * f.frame(f.DATA, f.END_STREAM, 1),
    "unknown frames": MANY * f.frame(77, 0, 0),
    "priorities": MANY * f.frame(f.PRIORITY, 0, 1, bytes(5)),
    "calls of another kind": b"".join(heads(NOT_GRPC, WHOLE)),
    "calls that are too many": b"".join(heads()),
    "trailers of ended calls": call(1) + MANY * f.frame(f.HEADERS, WHOLE, 1, HEAD),
    "a bomb of headers": f.frame(
        f.HEADERS, OPEN, 1, HEAD + b"\x40\x01a\x7f\x81\x1e" + bytes(3968) + 9 * b"\xbe"
    ),
}
OTHER_CODES = {  # h2 ends the connection before our count does
    "empty continuations": ErrorCodes.PROTOCOL_ERROR,
    "trailers of ended calls": ErrorCodes.STREAM_CLOSED,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_connection(
    server: Served, client: RawClient, wait_until: WaitUntil, name: str
) -> None:
    client.send(FLOODS[name])
    # The end of the data can be unread, so that the reason is lost on its way.
    assert client.end() in (OTHER_CODES.get(name, ErrorCodes.ENHANCE_YOUR_CALM), None)
    with RawClient(server.port) as other:
        other.send(call(1))
        assert other.answer(1)[0][b"grpc-status"] == b"0"
    client.socket.close()
    wait_until(lambda: server.shared.calls == server.shared.held.bytes == 0)


PROTOCOL_ERROR, FRAME_SIZE_ERROR = ErrorCodes.PROTOCOL_ERROR, ErrorCodes.FRAME_SIZE_ERROR
FLOW_CONTROL_ERROR = ErrorCodes.FLOW_CONTROL_ERROR
WIDE = f.setting.pack(f.INITIAL_WINDOW_SIZE, 1 << 31)
FRAMES = {
    "a large frame": (f.head.pack(1 << 23, 0, 1), FRAME_SIZE_ERROR),
    "a stream of the server": (f.frame(f.HEADERS, OPEN, 2, HEAD), PROTOCOL_ERROR),
    "data before headers": (f.frame(f.DATA, 0, 7, b"x"), PROTOCOL_ERROR),
    "a reset before headers": (f.reset_frame(7, 0), PROTOCOL_ERROR),
    "a short reset": (OPENED + f.frame(f.RST_STREAM, 0, 1, b"x"), FRAME_SIZE_ERROR),
    "a short ping": (f.frame(f.PING, 0, 0, b"x"), FRAME_SIZE_ERROR),
    "odd settings": (f.frame(f.SETTINGS, 0, 0, b"x"), FRAME_SIZE_ERROR),
    "a window of settings": (f.frame(f.SETTINGS, 0, 0, WIDE), FLOW_CONTROL_ERROR),
    "a window that does not grow": (f.window_frame(0, 0), PROTOCOL_ERROR),
    "a window above its bound": (f.window_frame(0, (1 << 31) - 1), FLOW_CONTROL_ERROR),
    "a promise": (f.frame(f.PUSH_PROMISE, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "a frame within headers": (
        f.frame(f.HEADERS, 0, 1, HEAD) + f.frame(f.PING, 0, 0, bytes(8)),
        PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (f.frame(f.CONTINUATION, 0, 1, HEAD), PROTOCOL_ERROR),
    "headers that are no code": (f.frame(f.HEADERS, OPEN, 1, b"\x80"), PROTOCOL_ERROR),
    "padding beyond the frame": (f.frame(f.HEADERS, OPEN | 8, 1, b"\xff"), PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_wrong_frame_ends_the_connection(client: RawClient, name: str) -> None:
    sent, code = FRAMES[name]
    client.send(sent)
    assert client.end() in (code, None if len(sent) > 100 else code)


def test_another_protocol_ends_the_connection(server: Served) -> None:
    with RawClient(server.port, preface=False) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.end() == PROTOCOL_ERROR


CALLS = {
    "no message": (f.frame(f.HEADERS, WHOLE, 1, HEAD), b"3", b"the call has no message"),
    "half a message": (
        OPENED + f.frame(f.DATA, f.END_STREAM, 1, prefixed(b"hello")[:7]),
        b"3",
        b"the message ends early",
    ),
    "two messages": (
        OPENED + f.frame(f.DATA, f.END_STREAM, 1, 2 * prefixed(b"hello")),
        b"3",
        b"the call has more than one message",
    ),
    "a compressed message": (
        OPENED + f.frame(f.DATA, f.END_STREAM, 1, prefixed(b"hello", 1)),
        b"12",
        b"compressed messages are not read",
    ),
    "a large message": (
        OPENED + f.frame(f.DATA, 0, 1, b"\0\xff\xff\xff\xff"),
        b"8",
        b"the message has 4294967295 bytes; send at most 2097152",
    ),
    "another encoding": (
        call(1, b"", b"/echo", (b"grpc-encoding", b"gzip")),
        b"12",
        b"messages in the encoding 'gzip' are not read; send identity",
    ),
    "a wrong timeout": (
        call(1, b"", b"/echo", (b"grpc-timeout", b"1 s")),
        b"3",
        b"grpc-timeout is not digits and a unit",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_has_a_status_and_its_connection_goes_on(
    server: Served, client: RawClient, wait_until: WaitUntil, name: str
) -> None:
    sent, status, text = CALLS[name]
    client.send(sent)
    headers, _ = client.answer(1)
    assert (headers[b"grpc-status"], headers[b"grpc-message"]) == (status, text)
    client.send(call(3))
    assert client.answer(3)[0][b"grpc-status"] == b"0"
    wait_until(lambda: server.shared.calls == server.shared.held.bytes == 0)


@pytest.mark.parametrize("field", [(b"Big", b"1"), (b":path", b"/late"), (b":status", b"200")])
def test_malformed_headers_end_the_connection(
    client: RawClient, field: tuple[bytes, bytes]
) -> None:
    client.send(call(1, b"", b"/echo", field))
    assert client.end() == ErrorCodes.PROTOCOL_ERROR


def test_a_request_that_is_no_call_has_a_status_of_http(client: RawClient) -> None:
    client.send(f.frame(f.HEADERS, WHOLE, 1, f.encode((b":method", b"GET"), *CALL[1:])))
    assert client.answer(1)[0] == {b":status": b"415"}


def test_calls_and_bytes_of_all_connections_are_bounded(
    server: Served, wait_until: WaitUntil
) -> None:
    clients = [RawClient(server.port) for _ in range(2)]
    try:
        clients[0].send(b"".join(call(n, b"", NEVER) for n in (1, 3, 5, 7)))
        wait_until(lambda: server.shared.calls == 4)
        clients[0].send(call(9))
        assert clients[0].until(f.RST_STREAM, 9).payload == ErrorCodes.REFUSED_STREAM.to_bytes(4)
        clients[1].send(call(1))
        assert clients[1].answer(1)[0][b"grpc-status"] == b"8"
    finally:
        for each in clients:
            each.socket.close()
    wait_until(lambda: server.shared.calls == 0)


def test_more_bytes_than_all_messages_can_have_are_refused(
    server: Served, wait_until: WaitUntil
) -> None:
    part = f.frame(f.DATA, 0, 1, bytes(1) + (1 << 21).to_bytes(4) + bytes(16000))
    rest = 60 * f.frame(f.DATA, 0, 1, bytes(1 << 14))
    server.shared.held.add((1 << 22) - (1 << 19))
    try:
        with RawClient(server.port) as client:
            client.send(OPENED + part + rest)
            assert client.answer(1)[0][b"grpc-status"] == b"8"
    finally:
        server.shared.held.release((1 << 22) - (1 << 19))
    wait_until(lambda: server.shared.held.bytes == 0)


FRAME = st.builds(
    f.frame,
    st.integers(0, 11),
    st.integers(0, 63),
    st.integers(0, 9),
    st.one_of(st.binary(max_size=40), st.just(HEAD), st.just(prefixed(b"hello"))),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FRAME, max_size=12))
def test_any_frames_leave_the_server_as_it_was(server: Served, sent: list[bytes]) -> None:
    with RawClient(server.port) as client:
        client.send(b"".join(sent))
        client.socket.shutdown(socket.SHUT_WR)
        for _ in client.frames():
            continue
    with RawClient(server.port) as client:
        client.send(call(1))
        assert client.answer(1)[0][b"grpc-status"] == b"0"
    assert server.shared.held.bytes == 0
