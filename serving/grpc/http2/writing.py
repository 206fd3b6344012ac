"""Responses and failures as frames, within the windows of the client's flow control."""

from __future__ import annotations

from collections.abc import Callable

from serving.grpc.calls import Failure
from serving.grpc.http2.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    HEADERS,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    ConnectionFailedError,
    frame,
)
from serving.grpc.http2.hpack import encode
from serving.grpc.http2.requests import CONTENT_TYPE, NOT_GRPC
from serving.grpc.http2.streams import PREFIX, Stream

OK_HEADERS = b"\x88" + encode(b"content-type", CONTENT_TYPE)  # `:status 200` is in a table
OK_TRAILERS = encode(b"grpc-status", b"0")
NOT_GRPC_HEADERS = encode(b":status", b"%d" % NOT_GRPC)
MAX_TEXT = 1024  # characters of an error
CLOSING = END_HEADERS | END_STREAM
PLAIN = bytes(each for each in range(0x20, 0x7F) if each != 0x25)  # not percent-encoded in a text


class Responses:
    """Sends the responses of a connection.

    Args:
        write: Writes frames.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._window = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self._blocked: dict[int, Stream] = {}

    def respond(self, stream: Stream, message: bytes, now: float) -> bool:
        """Send a message. Return whether all of it is sent, and the stream so ended."""
        size, number = PREFIX + len(message), stream.id
        opening = frame(HEADERS, END_HEADERS, number, OK_HEADERS)
        body = b"\0" + len(message).to_bytes(4) + message
        if size > min(self._window, stream.window, MAX_FRAME_BYTES) or self._blocked:
            self._write(opening)
            stream.pending, stream.blocked = memoryview(body), now
            self._blocked[number] = stream
            return self._flush(stream)
        self._window -= size
        trailers = frame(HEADERS, CLOSING, number, OK_TRAILERS)
        self._write(b"".join((opening, frame(DATA, 0, number, body), trailers)))
        return True

    def fail(self, stream: Stream, failure: Failure) -> None:
        """End a stream with a status."""
        text = failure.text[:MAX_TEXT].encode()
        encoded = b"".join(b"%c" % c if c in PLAIN else b"%%%02X" % c for c in text)
        block = encode(b"grpc-status", b"%d" % failure.status) + encode(b"grpc-message", encoded)
        block += b"".join(encode(*field) for field in failure.trailers)
        # The headers went before, if a part of the message waits.
        opening = b"" if stream.pending is not None else OK_HEADERS
        self._write(frame(HEADERS, CLOSING, stream.id, opening + block))

    def refuse_other(self, number: int) -> None:
        """End a stream that is no call of gRPC."""
        self._write(frame(HEADERS, CLOSING, number, NOT_GRPC_HEADERS))

    def forget(self, stream: Stream) -> None:
        """Send no more of a response."""
        self._blocked.pop(stream.id, None)

    def resize(self, initial: int, streams: list[Stream]) -> None:
        """Take the client's window for a new stream, which changes all windows of streams."""
        for stream in streams:
            stream.window += initial - self.initial
            if stream.window > MAX_WINDOW:
                raise ConnectionFailedError(FLOW_CONTROL_ERROR, "a window above its bound")
        self.initial = initial

    def grow(self, increment: int) -> None:
        """Let all streams together send more bytes."""
        self._window += increment
        if self._window > MAX_WINDOW:
            raise ConnectionFailedError(FLOW_CONTROL_ERROR, "a window above its bound")

    def flush(self) -> list[Stream]:
        """Send what fits into the windows. Return the streams that ended so."""
        return [stream for stream in [*self._blocked.values()] if self._flush(stream)]

    def _flush(self, stream: Stream) -> bool:
        rest = stream.pending
        assert rest is not None
        while rest and (size := min(len(rest), self._window, stream.window, MAX_FRAME_BYTES)) > 0:
            self._write(frame(DATA, 0, stream.id, rest[:size]))
            self._window -= size
            stream.window -= size
            rest = rest[size:]
        stream.pending = rest
        if rest:
            return False
        del self._blocked[stream.id]
        self._write(frame(HEADERS, CLOSING, stream.id, OK_TRAILERS))
        return True
