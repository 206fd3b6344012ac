"""Keep-alive HTTP/1.1 connection of the load generator, parsed in C."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from offramp.load.outcomes import NO_ANSWER

HOST = "127.0.0.1"
NONE = -1  # no request


class Connection(asyncio.Protocol):
    """Keep-alive connection. Carries one request at a time.

    Args:
        on_response: Called at the end of a response, with status and body. The status is
            `NO_ANSWER` where the connection closes first.

    Attributes:
        transport: Transport of the connection, or `None` once it is closed.
        request: Number of the request that waits for a response, or `NONE`.
        used: True while the last response has arrived whole, and no next one has begun.
    """

    def __init__(self, on_response: Callable[[Connection, int, bytes], None]) -> None:
        self._on_response = on_response
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.request = NONE
        self.used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the opened connection."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop has its own class

    def data_received(self, data: bytes) -> None:
        """Parse a part of a response."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Note that a response begins, found by the parser."""
        self.used = False

    def on_body(self, body: bytes) -> None:
        """Collect a part of a body, found by the parser."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Report a whole response."""
        status, body, self._body = self._parser.get_status_code(), b"".join(self._body), []
        if not self._parser.should_keep_alive():
            self.close()
        self.used = True
        self._on_response(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Report a request without a response, after either side has closed."""
        self.transport = None
        if self.request != NONE:
            self._on_response(self, NO_ANSWER, b"")

    def close(self) -> None:
        """Close once all written bytes are sent."""
        if self.transport is not None:
            self.transport.close()
            self.transport = None
