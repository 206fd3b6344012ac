"""Refusals: problems instead of responses, in the order of the requests.

A request that cannot be parsed is refused after the responses to earlier requests. Nothing that
the client sends after it is parsed.
"""

from __future__ import annotations

import asyncio

from serving.errors import ServingError
from serving.http.connection.closing import (
    HEAD_LINGER_BYTES,
    LINGER_BYTES,
    MOST_LINGER_BYTES,
    ClosingProtocol,
)
from serving.http.connection.heads import MAX_PIPELINED
from serving.http.connection.interface import FastPath, Headers

# A client that shut its sending side can read, or is gone: this is not known before a response is
# written. Requests under way are continued for this time after the end, and after each response.
HALF_CLOSED_SECONDS = 2.0


class RefusingProtocol(ClosingProtocol):
    """A protocol of uvicorn that refuses with problems, and answers half-closed clients."""

    _fast_path: FastPath | None = None
    _data = b""  # arrived
    _at = 0  # number of bytes of `_data` that are parsed
    _head_ended = False  # the latest piece ends a head
    _pipelined = 0  # requests in a row that arrived before the response to the one before
    _in_body = False  # the head is parsed, and the body is not whole
    _body_left = 0  # bytes of a body with a known length
    _ended = False  # the client shut its sending side
    _refusal: ServingError | None = None  # to be written after the responses under way

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Find the application's fast path, which also writes the problems."""
        super().connection_made(transport)
        self._fast_path = getattr(self.config.app, "fast_path", None)

    def eof_received(self) -> bool:  # type: ignore[override] # as asyncio defines it
        """Keep the connection for the responses to whole requests. Else let it close."""
        if self._ended:
            return True
        whole = not (self._idle or self._in_body) or self._at < len(self._data)
        if self._lingering or not (whole or self._refusal) or not self.transport.can_write_eof():
            return False
        self._ended = True
        self._limit_half_closed()
        return True

    def _limit_half_closed(self) -> None:
        """Limit the time to the next response. A client that is gone resets the connection then."""
        self._start_closing_timer(HALF_CLOSED_SECONDS, self.transport.close)

    @property
    def _idle(self) -> bool:
        """Return whether no request waits for its response."""
        return getattr(self.cycle, "response_complete", True)  # None before the first request

    def _close(self) -> None:
        """Close after a response, lingeringly if the client can still be sending."""
        still = self._in_body or self._at < len(self._data) or self._pipelined >= MAX_PIPELINED
        if still and not self._ended:
            self._stop_parsing()
            self._linger()
        else:
            self.transport.close()

    def _refuse(self, error: ServingError) -> None:
        """Refuse what the client sends, after the responses to earlier requests."""
        self._stop_parsing()
        if self._in_body and self._idle:  # the request has its response
            self._linger()
            return
        if self._in_body:
            self._abandon(error)
        elif self._idle:
            self._send_refusal(error)
        else:
            self._refusal = error

    def _stop_parsing(self) -> None:
        """Discard from now on what the client sends, within bounds."""
        self._discarding, self._flow.full = True, False
        self._data, self._at = b"", 0
        if self._in_body or self._head_ended:
            self._discardable = min(max(self._body_left, LINGER_BYTES), MOST_LINGER_BYTES)
        else:
            self._discardable = HEAD_LINGER_BYTES

    def _abandon(self, error: ServingError) -> None:
        """Refuse a request while its application waits for the rest of its body."""
        if self.pipeline:
            self.pipeline.popleft()  # it has not started
            self._refusal = error
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._send_refusal(error)

    def _send_refusal(self, error: ServingError) -> None:
        if self._fast_path is None:
            self._write_refusal(error.status, (), b"")
        else:
            self._fast_path.refuse(error, self._write_refusal)

    def _write_refusal(self, status: int, headers: Headers, body: bytes) -> None:
        self._write_response(status, headers, body, keep_alive=False)
        if self._ended:
            self.transport.close()
        else:
            self._linger()
