"""A client that sends any frames, and a server of connections whose methods are a test's."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from hpack import Decoder

from serving.grpc.calls import Call, CallError, Failure, Message, Respond, Status
from serving.grpc.errors import failure_of
from serving.grpc.http2.answering import Bounds, Shared
from serving.grpc.http2.connection import Connection
from serving.grpc.http2.streams import Held
from tests.serving.grpc.http2 import frames as f

NEVER = b"/never"  # a method without an answer
CALL = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/echo"),
    (b":authority", b"here"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
HEAD = f.encode(*CALL)
OPEN, WHOLE = f.END_HEADERS, f.END_HEADERS | f.END_STREAM


class Problems:
    """Counts problems."""

    def __init__(self) -> None:
        self.types: list[str] = []

    def problem(self, type_: str) -> None:
        self.types.append(type_)


class Echo:
    """Methods that return the message of a call."""

    def __init__(self) -> None:
        self.problems = Problems()
        self.cancelled = 0

    def open(self, call: Call) -> None:
        if call.path == b"/unknown":
            raise CallError(Status.UNIMPLEMENTED, "é% is not served")

    def start(self, call: Call, message: Message, respond: Respond) -> asyncio.Future[Any] | None:
        if call.path == NEVER:
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(self._count)
            return future
        if call.path == b"/bug":
            raise ZeroDivisionError
        respond(bytes(message))
        return None

    def failure(self, error: Exception) -> Failure:
        return failure_of(self.problems, error)

    def _count(self, future: asyncio.Future[None]) -> None:
        self.cancelled += future.cancelled()


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    port: int
    shared: Shared
    methods: Echo
    run: Callable[[Callable[[], object]], object]  # on its event loop


def each_of(shared: Shared, act: Callable[[Any], None]) -> None:
    """Act on each connection of a server."""
    for connection in [*shared.connections]:
        act(connection)


@contextmanager
def served(calls: int = 4, seconds: float = 0.3, message_bytes: int = 1 << 21) -> Iterator[Served]:
    """Serve calls on a thread."""
    loop, methods = asyncio.new_event_loop(), Echo()
    shared = Shared(methods, Bounds(message_bytes, calls, seconds), Held(1 << 22))

    async def listen() -> asyncio.Server:
        return await loop.create_server(lambda: Connection(shared), "127.0.0.1", 0)

    def run(act: Callable[[], object]) -> object:
        async def acted() -> object:
            return act()

        return asyncio.run_coroutine_threadsafe(acted(), loop).result(10)

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    try:
        yield Served(server.sockets[0].getsockname()[1], shared, methods, run)
    finally:
        run(server.close)
        run(lambda: each_of(shared, Connection.abort))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that arrived."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()


class RawClient:
    """A client that sends any bytes."""

    def __init__(self, port: int, settings: bytes = b"", *, preface: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._decoder = Decoder()
        self._data = b""
        if preface:
            self.send(f.PREFACE + f.frame(f.SETTINGS, 0, 0, settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes. The server can have closed the connection."""
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            return

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that arrive, until the server closes the connection."""
        while True:
            while len(self._data) >= 9 and len(self._data) >= 9 + int.from_bytes(self._data[:3]):
                number, flags, stream = f.head.unpack_from(self._data)
                end = 9 + (number >> 8)
                payload, self._data = self._data[9:end], self._data[end:]
                yield Frame(number & 0xFF, flags, stream, payload, self._headers(number, payload))
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return
            if not more:
                return
            self._data += more

    def _headers(self, number: int, payload: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Decode all headers that arrive, as each changes the table of the next ones."""
        if number & 0xFF != f.HEADERS:
            return ()
        return [*self._decoder.decode(payload, raw=True)]

    def until(self, kind: int, stream: int = 0) -> Frame:
        """Return the next frame of a kind, for a stream."""
        return next(each for each in self.frames() if (each.kind, each.stream) == (kind, stream))

    def answer(self, stream: int) -> tuple[dict[bytes, bytes], bytes]:
        """Return all headers and the data of a response."""
        headers: dict[bytes, bytes] = {}
        data = b""
        for each in self.frames():
            if each.stream == stream and each.kind == f.HEADERS:
                headers |= dict(each.headers)
                if each.flags & f.END_STREAM:
                    break
            elif each.stream == stream and each.kind == f.DATA:
                data += each.payload
        return headers, data

    def end(self) -> int | None:
        """Return the code with which the server closes the connection. `None`: without one."""
        codes = [int.from_bytes(e.payload[4:8]) for e in self.frames() if e.kind == f.GOAWAY]
        return codes[-1] if codes else None


def prefixed(message: bytes, flag: int = 0) -> bytes:
    """Return a message with its prefix."""
    return bytes((flag,)) + len(message).to_bytes(4) + message


def call(
    stream: int, message: bytes = b"hello", path: bytes = b"/echo", *fields: tuple[bytes, bytes]
) -> bytes:
    """Return the frames of a call."""
    block = f.encode(*(dict(CALL) | {b":path": path}).items(), *fields)
    return f.frame(f.HEADERS, OPEN, stream, block) + f.frame(
        f.DATA, f.END_STREAM, stream, prefixed(message)
    )
