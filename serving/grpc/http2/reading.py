"""The frames of a connection, one by one for h2, and the bounds that hold before h2 reads them.

h2 keeps up to 16 MiB of a frame before it refuses it, and has no event for frames that it ignores.
So the head of each frame is read here first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from struct import Struct
from typing import cast

from h2.errors import ErrorCodes
from h2.events import Event, RequestReceived, StreamEnded
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, ProtocolError
from hyperframe.frame import ContinuationFrame, DataFrame, GoAwayFrame, HeadersFrame

from serving.grpc.http2.library import Http2

# A client has so many frames that are no part of a call: pings, resets, settings, empty frames.
# An answer gives some back, as time does. Without a bound, such frames cost the server more than
# the client (CVE-2019-9512 to 9518, CVE-2023-44487).
MAX_CREDIT = 1000.0
CREDIT_OF_ANSWER = 16.0
CREDIT_OF_SECOND = 33.0
MAX_CALLS = 64  # started in one turn of the event loop, by one connection
MAX_FRAME_BYTES = 1 << 14  # of a payload, the default of the protocol
MAX_BLOCK_BYTES = 32 << 10  # of compressed headers, in several frames
SMALL_FRAME = 64  # bytes: parts of a message below it are counted
PREFACE_BYTES = 24
MAX_TEXT = 256  # characters of the reason for an end
END_HEADERS = 0x4
DATA, GOAWAY, BLOCK = DataFrame.type, GoAwayFrame.type, (HeadersFrame.type, ContinuationFrame.type)
PART_OF_CALL = (RequestReceived, StreamEnded)
frame_head = Struct(">HBBBL")  # bytes of the payload (upper and lowest), type, flags, stream
log = logging.getLogger(__name__)


class FrameReader(asyncio.Protocol):
    """A connection that reads frames.

    Args:
        http2: Its protocol.
    """

    _transport: asyncio.Transport

    def __init__(self, http2: Http2) -> None:
        self._loop = asyncio.get_running_loop()
        self._http2 = http2
        self._data = b""  # that is not read
        self._begun = self._loop.time()  # when the incomplete frame, or the preface, began
        self._preface_left = PREFACE_BYTES
        self._block, self._block_begun = 0, 0.0  # bytes of incomplete headers, and their time
        self._closed = False
        self._calls = 0  # in this turn
        self._credit, self._counted = MAX_CREDIT, self._begun
        self._writing_paused = 0.0  # time since when the client reads too slowly
        self._continues = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our settings."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own class
        self._write()

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

    def _write(self) -> None:
        """Send the frames that h2 has made."""
        if data := self._http2.data_to_send():
            self._transport.write(data)

    def _read(self) -> None:
        """Read the frames that are complete, for one turn of the event loop."""
        self._calls = 0
        try:
            at = self._read_frames(self._data)
        except ProtocolError as error:
            self._end(error.error_code, str(error))
        except Exception:
            log.exception("Exception in a connection of gRPC")
            self._end(ErrorCodes.INTERNAL_ERROR)
        else:
            self._data = self._data[at:]
            if not self._closed:
                self._write()

    def _read_frames(self, data: bytes) -> int:
        """Read frames, and return where the rest begins."""
        at = self._read_preface(data) if self._preface_left else 0
        begun, length = at, len(data)
        while length - at >= frame_head.size and not self._closed:
            upper, lowest, kind, flags, _ = frame_head.unpack_from(data, at)
            size = upper << 8 | lowest
            end = at + frame_head.size + size
            if size > MAX_FRAME_BYTES:
                raise FrameTooLargeError(f"a frame of {size} bytes")
            if end > length:
                break
            if self._calls >= MAX_CALLS:
                self._continue_later()
                return at
            if kind in BLOCK:
                self._count_block(size, complete=bool(flags & END_HEADERS))
            self._take(kind, data[at:end])
            at = end
        if begun < at < length:
            self._begun = self._loop.time()
        return at

    def _read_preface(self, data: bytes) -> int:
        part = data[: self._preface_left]
        try:
            self._http2.receive_data(part)
        except ProtocolError as error:
            raise ProtocolError("this port is for gRPC, over HTTP/2") from error
        self._preface_left -= len(part)
        return len(part)

    def _count_block(self, size: int, *, complete: bool) -> None:
        """Count the bytes of headers in several frames."""
        if not self._block:
            self._block_begun = self._loop.time()
        self._block += size
        if self._block > MAX_BLOCK_BYTES:
            raise DenialOfServiceError(f"the headers have more than {MAX_BLOCK_BYTES} bytes")
        if complete:
            self._block = 0

    def _take(self, kind: int, frame: bytes) -> None:
        """Let h2 read a frame, and act on its events."""
        if kind == GOAWAY:  # h2 would send no more, also for calls that were begun
            self._charge()
            self._take_goaway()
            return
        events = self._http2.receive_data(frame)
        large = kind == DATA and len(frame) >= SMALL_FRAME
        if not (large or any(isinstance(each, PART_OF_CALL) for each in events)):
            self._charge()
        self._handle(events)

    def _handle(self, events: Sequence[Event]) -> None:
        """Do what events say."""
        raise NotImplementedError

    def _take_goaway(self) -> None:
        """Close after the calls that were begun: the client sends no more."""
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

    def _incomplete_since(self) -> float:
        """Return the time since when a frame or headers are not complete. Infinite: they are."""
        if self._block:
            return self._block_begun
        return self._begun if self._data or self._preface_left else float("inf")

    def _charge(self) -> None:
        """Count a frame that is no part of a call.

        Raises:
            DenialOfServiceError: There are too many.
        """
        self._credit -= 1
        if self._credit < 0:
            now = self._loop.time()
            self._credit += CREDIT_OF_SECOND * (now - self._counted)
            self._credit, self._counted = min(self._credit, MAX_CREDIT), now
            if self._credit < 0:
                raise DenialOfServiceError("too many frames beside calls")

    def _end(self, code: ErrorCodes | int, text: str = "") -> None:
        """Say why, and close the connection."""
        if not self._closed:
            self._closed = True
            self._data = b""
            self._http2.clear_outbound_data_buffer()  # it can have a GOAWAY without a text
            self._http2.close_connection(code, text[:MAX_TEXT].encode())
            self._write()
            self._transport.close()
