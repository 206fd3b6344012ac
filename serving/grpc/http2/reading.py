"""Frames from bytes, and the bounds of a connection that hold for every frame."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from serving.grpc.http2.frames import (
    CONTINUATION,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    MAX_FRAME_BYTES,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    SETTINGS,
    ConnectionFailedError,
    goaway_frame,
    head,
)

# A client has so many frames that are no part of a call: pings, resets, settings, empty frames.
# An answer gives some back, as time does. Without a bound, such frames cost the server more than
# the client (CVE-2019-9512 to 9518, CVE-2023-44487).
MAX_CREDIT = 1000.0
CREDIT_OF_ANSWER = 16.0
CREDIT_OF_SECOND = 33.0
MAX_CALLS = 64  # started in one turn of the event loop, by one connection
log = logging.getLogger(__name__)


class FrameReader(asyncio.Protocol):
    """A connection that reads frames.

    Attributes:
        last: Number of the latest stream that is answered.
    """

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.last = 0
        self._data = b""  # that is not read
        self._begun = (
            self._loop.time()
        )  # when the frame that is not complete, or the preface, began
        self._prefaced = False
        self._settled = False  # the client's settings came
        self._block: bytearray | None = None  # headers that further frames complete
        self._closed = False
        self._calls = 0  # in this turn
        self._credit, self._counted = MAX_CREDIT, self._begun
        self._writing_paused = 0.0  # time since when the client reads too slowly
        self._continues = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own class

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        if self._closed:
            return
        if self._data:
            self._data += data
        else:
            self._data, self._begun = data, self._loop.time()
        if not self._continues:
            self._read()

    def pause_writing(self) -> None:
        """Read no more, while the client does not read either."""
        self._writing_paused = self._loop.time()
        if not self._closed:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        self._writing_paused = 0.0
        if not (self._continues or self._closed):
            self._transport.resume_reading()

    def _read(self) -> None:
        """Read the frames that are complete, for one turn of the event loop."""
        self._calls = 0
        try:
            at = self._read_frames(self._data)
        except ConnectionFailedError as error:
            self._end(error.code, str(error))
        except Exception:
            log.exception("Exception in a connection of gRPC")
            self._end(NO_ERROR)
        else:
            self._data = self._data[at:]

    def _read_frames(self, data: bytes) -> int:
        """Read frames, and return where the rest begins."""
        at = 0 if self._prefaced else self._read_preface(data)
        begun, length = at, len(data)
        while self._prefaced and length - at >= head.size and not self._closed:
            number, flags, stream = head.unpack_from(data, at)
            size, start = number >> 8, at + head.size
            if size > MAX_FRAME_BYTES:
                raise ConnectionFailedError(FRAME_SIZE_ERROR, "a frame above its bound")
            if start + size > length:
                break
            if self._calls >= MAX_CALLS:
                self._continue_later()
                return at
            at = start + size
            self._check_order(number & 0xFF, flags)
            self._take(number & 0xFF, flags, stream & 0x7FFFFFFF, data, start, at)
        if begun < at < length:
            self._begun = self._loop.time()
        return at

    def _read_preface(self, data: bytes) -> int:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ConnectionFailedError(PROTOCOL_ERROR, "this port is for gRPC, over HTTP/2")
        self._prefaced = len(data) >= len(PREFACE)
        return len(PREFACE) if self._prefaced else 0

    def _check_order(self, kind: int, flags: int) -> None:
        """Check that settings come first, and that nothing comes between parts of headers."""
        if not self._settled:
            if kind != SETTINGS or flags:
                raise ConnectionFailedError(PROTOCOL_ERROR, "the first frame has no settings")
            self._settled = True
        if (kind == CONTINUATION) != (self._block is not None):
            raise ConnectionFailedError(PROTOCOL_ERROR, "a frame within headers, or none")

    def _take(self, kind: int, flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        """Do what a frame says, whose payload is `data[start:end]`."""
        raise NotImplementedError

    def _continue_later(self) -> None:
        """Let the event loop answer other connections, then read on."""
        if not self._continues:
            self._continues = True
            self._transport.pause_reading()
            self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._continues = False
        if self._closed:
            return
        self._read()
        if not (self._continues or self._writing_paused or self._closed):
            self._transport.resume_reading()

    def _charge(self) -> None:
        """Count a frame that is no part of a call.

        Raises:
            ConnectionFailedError: There are too many.
        """
        self._credit -= 1
        if self._credit < 0:
            now = self._loop.time()
            self._credit += CREDIT_OF_SECOND * (now - self._counted)
            self._credit, self._counted = min(self._credit, MAX_CREDIT), now
            if self._credit < 0:
                raise ConnectionFailedError(ENHANCE_YOUR_CALM, "too many frames beside calls")

    def _end(self, code: int, text: str = "") -> None:
        """Say why, and close the connection."""
        if not self._closed:
            self._closed = True
            self._data = b""
            self._transport.write(goaway_frame(self.last, code, text))
            self._transport.close()
