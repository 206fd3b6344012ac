"""A load of gRPC that costs the machine little: frames that are encoded before the clock starts.

Each connection has one call at a time, in a closed loop. Its headers are those of common clients:
after the first call they are indexes of a table. gRPC's own clients in Python cost more than a
server, so that they would measure themselves.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import cast

import numpy as np
import uvloop
from numpy.typing import NDArray

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WINDOW = (1 << 30).to_bytes(4)
LARGEST_FRAME = 1 << 14
LARGEST_MESSAGE = 60_000  # the window of a server, less a prefix
head = Struct(">IBI")  # bytes of the payload and type, flags, stream
# POST and http from the table of the standard. The rest is added to the table by the first call.
FIELDS = (
    (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
    (b":authority", b"127.0.0.1"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-python/1.85.0 grpc-c/54.0.0 (linux; chttp2)"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
)
FIRST = b"\x83\x86" + b"".join(
    b"\x40%c%b%c%b" % (len(name), name, len(value), value) for name, value in FIELDS
)
NEXT = b"\x83\x86" + bytes(0x80 | 62 + n for n in reversed(range(len(FIELDS))))


@dataclass(frozen=True, slots=True)
class Calls:
    """The result of a load.

    Attributes:
        latency: Seconds of each call, float64 [N].
        wall: Seconds from the first call to the last response.
        answered: Every call has a response.
    """

    latency: NDArray[np.float64]
    wall: float
    answered: bool


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return head.pack(len(payload) << 8 | kind, flags, stream) + payload


class _Client(asyncio.Protocol):
    """Connection with one call at a time."""

    def __init__(self, messages: Sequence[bytes], start: int, end: float) -> None:
        self._messages = [len(each).to_bytes(5) + each for each in messages]
        self._number, self._end = start, end
        self._stream, self._rest, self._sent, self._has_data = -1, b"", 0.0, False
        self.latency: list[float] = []
        self.answered = True
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        opening = PREFACE + frame(SETTINGS, 0, 0, b"\0\4" + WINDOW)
        self._transport.write(opening + frame(WINDOW_UPDATE, 0, 0, WINDOW))
        self._call()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data, 0
        while len(data) - at >= head.size:
            number, flags, stream = head.unpack_from(data, at)
            start, kind = at + head.size, number & 0xFF
            if len(data) < start + (number >> 8):
                break
            at = start + (number >> 8)
            if kind in (SETTINGS, PING) and not flags & ACK:
                self._transport.write(frame(kind, ACK, 0, data[start:at] if kind == PING else b""))
            elif stream == self._stream:
                self._has_data |= kind == DATA
                if flags & END_STREAM and kind in (DATA, HEADERS):
                    self._finish()
        self._rest = data[at:]

    def _call(self) -> None:
        message = self._messages[self._number % len(self._messages)]
        block = FIRST if self._stream < 0 else NEXT
        self._stream += 2
        self._number += 1
        self._has_data, self._sent = False, time.perf_counter()
        parts = [frame(HEADERS, END_HEADERS, self._stream, block)]
        for start in range(0, len(message), LARGEST_FRAME):
            part = message[start : start + LARGEST_FRAME]
            last = END_STREAM if start + LARGEST_FRAME >= len(message) else 0
            parts.append(frame(DATA, last, self._stream, part))
        self._transport.write(b"".join(parts))

    def _finish(self) -> None:
        now = time.perf_counter()
        self.latency.append(now - self._sent)
        self.answered &= self._has_data  # an error has no message
        if now < self._end:
            self._call()
        else:
            self._transport.close()


def _same(client: _Client) -> _Client:
    return client


def send_calls(port: int, messages: Sequence[bytes], connections: int, seconds: float) -> Calls:
    """Send messages in a closed loop, one call at a time over each connection.

    Raises:
        ValueError: A message is larger than a server reads without a sign to go on.
    """
    if max(map(len, messages)) > LARGEST_MESSAGE:
        raise ValueError(f"messages above {LARGEST_MESSAGE} bytes are not sent; use smaller images")

    async def run() -> tuple[list[_Client], float]:
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        step, end = max(1, len(messages) // connections), began + seconds
        clients = [_Client(messages, n * step, end) for n in range(connections)]
        for client in clients:
            await loop.create_connection(partial(_same, client), "127.0.0.1", port)
        await asyncio.gather(*(client.closed for client in clients))
        return clients, time.perf_counter() - began

    gc.disable()
    try:
        clients, wall = uvloop.run(run())
    finally:
        gc.enable()
    latency = np.array([each for client in clients for each in client.latency])
    return Calls(latency, wall, bool(len(latency)) and all(each.answered for each in clients))
