"""A close that lets the client read the last response.

A socket that is closed while bytes of the client are unread is reset, and the reset discards the
response on its way. A client that writes its whole request before it reads never sees the reason.
Such a connection is therefore shut in the direction of the client first. What the client still
sends is discarded, for a bounded time and a bounded number of bytes (a lingering close).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.http.connection.interface import Headers
from serving.http.uvicorn_internals import STATUS_LINE, Flow, HttpToolsProtocol

LINGER_SECONDS = 30.0
# Bytes discarded at most. They cost time of the event loop, and no memory.
MOST_LINGER_BYTES = 256 << 20  # of a body that stated its length
LINGER_BYTES = 32 << 20  # of another body
HEAD_LINGER_BYTES = 1 << 20  # of a head without end, which no client sends by mistake
SHUTDOWN_SECONDS = 1.0  # instead of `LINGER_SECONDS` while the server shuts down
# Time for a client to read what is written for it, before the server writes more. A request whose
# client never reads would keep its connection, its task and the version that answers it for ever.
UNREAD_SECONDS = 75.0
CLOSE = (b"connection", b"close")


class CycleTransport:
    """The methods of a transport that uvicorn's request uses, with another close."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class ClosingProtocol(HttpToolsProtocol):
    """A protocol of uvicorn with a lingering close, and a bound for clients that do not read."""

    _flow: Flow
    _discarding = False  # nothing that arrives is parsed any more
    _discardable = LINGER_BYTES  # that are left of them
    _lingering = False  # the response is written, and the client can still send
    _stopping = False  # the server shuts down
    _close_timer: asyncio.TimerHandle | None = None  # of a lingering or half-closed connection
    _unread_timer: asyncio.TimerHandle | None = None  # while the client has to read first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Replace the flow control."""
        super().connection_made(transport)
        self.flow = self._flow = Flow(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_closing_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Bound the time that the client takes to read."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer of a client that reads."""
        super().resume_writing()
        self._stop_unread_timer()

    def shutdown(self) -> None:
        """Close a connection that lingers. Let another one end its request."""
        self._stopping = True
        if self._lingering:
            self.transport.close()
        super().shutdown()

    def _linger(self) -> None:
        """Shut the sending side after the last response, and discard what the client sends."""
        if self.transport.is_closing() or self._lingering:
            return
        self._discarding = self._lingering = True
        self._flow.full = False
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        if not self.transport.can_write_eof():  # with TLS
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        seconds = SHUTDOWN_SECONDS if self._stopping else LINGER_SECONDS
        self._start_closing_timer(seconds, self.transport.abort)

    def _discard(self, size: int) -> None:
        """Count bytes that are not parsed, and close after too many of them."""
        self._discardable -= size
        if self._discardable < 0:
            self.transport.abort()

    def _start_closing_timer(self, seconds: float, action: Callable[[], object]) -> None:
        self._stop_closing_timer()
        self._close_timer = self.loop.call_later(seconds, action)

    def _stop_closing_timer(self) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _write_response(
        self, status: int, headers: Headers, body: bytes, *, keep_alive: bool
    ) -> None:
        """Write a whole response. A header says so if the connection is closed."""
        fields = [b"%b: %b\r\n" % pair for pair in (*self.server_state.default_headers, *headers)]
        stated = keep_alive or CLOSE in headers
        end = b"\r\n" if stated else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], *fields, end, body)))
