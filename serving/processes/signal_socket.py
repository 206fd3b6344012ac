"""Signals as bytes on a socket, for a process that waits for other events as well."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def signal_socket(numbers: Sequence[signal.Signals]) -> Iterator[socket.socket]:
    """Yield a socket that becomes readable once there is one of these signals."""
    reader, writer = socket.socketpair()
    writer.settimeout(0)

    def ask(number: int, _: object) -> None:
        with suppress(BlockingIOError):
            writer.send(bytes([number]))

    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        with reader, writer:
            yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
