"""Frames as bytes, also wrong ones, which hyperframe would not make."""

from __future__ import annotations

from struct import Struct

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Types of frames.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
# Flags.
END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x4, 0x8, 0x20
INITIAL_WINDOW_SIZE = 4
head = Struct(">IBI")  # bytes of the payload and type, flags, stream
setting = Struct(">HI")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return head.pack(len(payload) << 8 | kind, flags, stream) + payload


def window_frame(stream: int, increment: int) -> bytes:
    """Return a frame that lets the server send more bytes, on a stream or (0) in all."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def reset_frame(stream: int, code: int) -> bytes:
    """Return a frame that ends a stream."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def encode(*fields: tuple[bytes, bytes]) -> bytes:
    """Return headers as a block that changes no table."""
    return Encoder().encode([(*each, True) for each in fields], huffman=False)
