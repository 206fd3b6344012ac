"""Frames as bytes, and the errors that end a connection."""

from __future__ import annotations

from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Types of frames.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
# Flags.
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
# Codes of errors.
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 3
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 6, 7, 8, 9
STREAM_CLOSED, ENHANCE_YOUR_CALM = 5, 11
# Settings.
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 6

MAX_FRAME_BYTES = 1 << 14  # of a payload, the default of the protocol
DEFAULT_WINDOW = (1 << 16) - 1
MAX_WINDOW = (1 << 31) - 1
PING_BYTES = 8
head = Struct(">IBI")  # bytes of the payload and type, flags, stream
setting = Struct(">HI")
number = Struct(">I")


class ConnectionFailedError(Exception):
    """A connection ends, because its client breaks the protocol or exceeds a bound.

    Attributes:
        code: Code for the client.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Return a frame."""
    return b"".join((head.pack(len(payload) << 8 | kind, flags, stream), payload))


def settings_frame(*pairs: tuple[int, int]) -> bytes:
    """Return a frame with settings."""
    return frame(SETTINGS, 0, 0, b"".join(setting.pack(*pair) for pair in pairs))


def window_frame(stream: int, increment: int) -> bytes:
    """Return a frame that lets the client send more bytes, on a stream or (0) in all."""
    return frame(WINDOW_UPDATE, 0, stream, number.pack(increment))


def reset_frame(stream: int, code: int) -> bytes:
    """Return a frame that ends a stream."""
    return frame(RST_STREAM, 0, stream, number.pack(code))


def goaway_frame(last: int, code: int, text: str = "") -> bytes:
    """Return a frame that says that no stream after `last` is answered."""
    payload = number.pack(last) + number.pack(code) + text.encode()
    return frame(GOAWAY, 0, 0, payload)


def unpadded(flags: int, start: int, end: int, data: bytes) -> tuple[int, int]:
    """Return where the content of a payload begins and ends, without padding and priority.

    Raises:
        ConnectionFailedError: The padding is longer than the payload.
    """
    if flags & PADDED:
        if start == end:
            raise ConnectionFailedError(FRAME_SIZE_ERROR, "a padded frame without a length")
        end -= data[start]
        start += 1
    if flags & PRIORITIZED:
        start += 5
    if start > end:
        raise ConnectionFailedError(PROTOCOL_ERROR, "padding or priority beyond a frame")
    return start, end
