"""One kept HTTP/1.1 connection of the load generator, parsed in C."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from benchmarks.serving.generator.outcomes import NO_ANSWER

HOST = "127.0.0.1"
NONE = -1  # no call


class Connection(asyncio.Protocol):
    """One kept connection; carries one call at a time."""

    def __init__(self, answered: Callable[[Connection, int, bytes], None]) -> None:
        self._answered = answered
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.call = NONE
        self.used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Opened."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """The parser found a part of a body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The parser found the end of an answer."""
        status, body, self._body = self._parser.get_status_code(), b"".join(self._body), []
        if not self._parser.should_keep_alive():
            self.close()
        self.used = True
        self._answered(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Closed, by whichever side."""
        self.transport = None
        if self.call != NONE:
            self._answered(self, NO_ANSWER, b"")

    def close(self) -> None:
        """Close after what was written."""
        if self.transport is not None:
            self.transport.close()
            self.transport = None
