"""A call with its message, while it arrives and until it is answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from serving.errors import BodiesFullError, EmptyBodyError
from serving.grpc.calls import Call, CallError, Message, Status

PREFIX = 5  # bytes before a message: whether it is compressed, and its length
SMALL = 1 << 16  # a message up to here is copied, so that its bytes are read faster


class Held:
    """The bytes of all messages that arrive.

    Args:
        max_bytes: Most of them.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count bytes, until they are released.

        Raises:
            BodiesFullError: There are too many.
        """
        if self.bytes + size > self._max_bytes:
            raise BodiesFullError("too many bodies are being read; try again in a moment")
        self.bytes += size

    def release(self, size: int) -> None:
        """Count bytes no more."""
        self.bytes -= size


@dataclass(slots=True, eq=False)
class Stream:
    """A stream.

    Attributes:
        id: Its number.
        call: Its call.
        started: Time of its head, by the clock of the event loop.
        ended: The client sends no more of it.
        held: Bytes that are counted as held.
        pending: The rest of the response, which waits for a larger window.
        blocked: Time since when it waits.
        future: Of its answer. `None`: it is not being answered.
        timer: Timer of its deadline.
    """

    id: int
    call: Call
    started: float
    ended: bool = False
    held: int = 0
    pending: memoryview | None = None
    blocked: float = 0.0
    future: asyncio.Future[Any] | None = None
    timer: asyncio.TimerHandle | None = None
    _body: bytes | bytearray = b""
    _size: int | None = None  # of the message with its prefix

    def add(self, chunk: bytes, max_bytes: int) -> None:
        """Add a part of the message, which must not have more than `max_bytes`.

        Raises:
            CallError: It has more, is compressed, or another message follows it.
        """
        if not self._body:
            self._body = chunk
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += chunk
        if self._size is None:
            if len(self._body) < PREFIX:
                return
            self._size = self._read_prefix(max_bytes)
        if len(self._body) > self._size:
            raise CallError(Status.INVALID_ARGUMENT, "the call has more than one message")

    def message(self) -> Message:
        """Return the message, complete.

        Raises:
            EmptyBodyError: There is none.
            CallError: It ends early.
        """
        body = self._body
        if not body:
            raise EmptyBodyError("the call has no message")
        if len(body) != self._size:
            raise CallError(Status.INVALID_ARGUMENT, "the message ends early")
        self._body = b""
        return bytes(body[PREFIX:]) if len(body) <= SMALL else memoryview(body)[PREFIX:]

    def close(self) -> None:
        """Stop its timer and its answer, and forget its message."""
        self._body, self.pending = b"", None
        if self.timer is not None:
            self.timer.cancel()
        if self.future is not None:
            self.future.cancel()

    def _read_prefix(self, max_bytes: int) -> int:
        """Return the size of the message with its prefix."""
        if self._body[0]:
            raise CallError(Status.UNIMPLEMENTED, "compressed messages are not read")
        size = int.from_bytes(self._body[1:PREFIX])
        if size > max_bytes:
            text = f"the message has {size} bytes; send at most {max_bytes}"
            raise CallError(Status.RESOURCE_EXHAUSTED, text)
        return PREFIX + size
