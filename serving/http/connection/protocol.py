"""The protocol of a connection: the timers, disconnects and the fast path.

It bounds the time of a request's head. It calls an application when its client disconnects, which
in plain ASGI takes a task for each request. It offers small requests to the application's fast
path, which needs no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from serving.errors import ServingError
from serving.http.connection.closing import CLOSE
from serving.http.connection.heads import MAX_HEAD_BYTES, MAX_PIPELINED
from serving.http.connection.interface import (
    ARRIVED,
    DISCONNECT,
    Disconnect,
    FastPath,
    Headers,
    RequestHead,
)
from serving.http.connection.reading import ReadingProtocol
from serving.http.uvicorn_internals import FastCycle

# Equal to the time of an idle connection: the rest of a refused body counts as the first byte of
# a head, and a load balancer can keep such a connection.
HEAD_SECONDS = 75.0
BODY_SECONDS = 0.05  # time to wait for a body, which many clients send separately


class Connection(ReadingProtocol):
    """A connection that closes if a request's head takes longer than `HEAD_SECONDS`.

    The time starts with the connection, then with the first byte after each response. Bodies and
    idle connections have other limits.
    """

    _offers: FastPath | None = None  # that gets requests
    _disconnect: Disconnect
    _head_timer: asyncio.TimerHandle | None = None
    _head: RequestHead | None = None  # of a fast-path request without its whole body
    _chunks: Sequence[bytes] = ()  # of that body
    _body_timer: asyncio.TimerHandle | None = None  # limit for the rest of that body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Start to wait for the first head."""
        super().connection_made(transport)
        unsuited = self.config.access_log or self.root_path or self.limit_concurrency is not None
        self._offers = None if unsuited else self._fast_path
        self._disconnect = Disconnect()
        self._watch_head()

    @property
    def pending(self) -> bool:
        """Return whether a head or a part of a body is kept for the fast path."""
        return self._head is not None or len(self._chunks) > 0

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._head is None:
            super().on_body(body)
        else:
            self._body_left -= len(body)
            self._chunks = [*self._chunks, body]

    def on_message_complete(self) -> None:
        """Start the fast path with a complete body, or hand it to uvicorn."""
        if self._head is not None:
            self._in_body, self._room, self._waiting = False, MAX_HEAD_BYTES, True
            if self._start_fast_path(self._head, b"".join(self._chunks)):
                return
            self._leave_fast_path()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and report the disconnect."""
        self._clear_head()
        super().connection_lost(exc)
        self._unwatch_head()
        self._disconnect.happened = True
        if self._disconnect.callback:
            self._disconnect.callback()

    def shutdown(self) -> None:
        """Hand a request without its whole body to uvicorn, which then shuts down."""
        if self._head is not None:
            self._leave_fast_path()
        super().shutdown()

    def _begin_request(
        self, method: bytes, version: str, found: Mapping[bytes, bytes] | None
    ) -> None:
        """Offer a complete head to the fast path, else let uvicorn start the application."""
        if (
            method == b"POST"
            and version == "1.1"
            and found is not None
            and self._offers is not None
            and self._idle
            and not self.expect_100_continue
            and not (self.flow.write_paused or self.transport.is_closing())
        ):
            self._head = self._offers.head_of(self.url, found)
        self._unwatch_head()
        if self._head is None:
            self._start_task()

    def _start_task(self) -> None:
        extensions: dict[str, object] = {DISCONNECT: self._disconnect}
        if self._head is not None:
            extensions[ARRIVED] = self._head.arrived
        self._start_application(extensions)

    def _parse(self) -> None:
        """Parse what arrived, then start or stop the timers."""
        super()._parse()
        if self._head is not None:
            if self._body_timer is None:
                self._body_timer = self.loop.call_later(BODY_SECONDS, self._leave_fast_path)
        elif self.timeout_keep_alive_task is None and not self._waiting:
            self._watch_head()  # else it is answered, and no other head has begun

    def _start_fast_path(self, head: RequestHead, body: bytes) -> bool:
        """Start a request on the fast path. False if the fast path does not take it."""
        assert self._fast_path is not None
        last = self._pipelined >= MAX_PIPELINED
        cycle = FastCycle(keep_alive=self.parser.should_keep_alive() and not last)
        future = self._fast_path.start(head, body, partial(self._reply, cycle))
        if future is None:
            return False
        self._clear_head()
        self.cycle = cycle  # type: ignore[assignment] # has the attributes that uvicorn reads
        if not future.done():
            self._disconnect.callback = future.cancel
            self.tasks.add(future)  # type: ignore[arg-type] # awaited or cancelled at shutdown
            future.add_done_callback(self._end_fast_path)
        return True

    def _end_fast_path(self, future: asyncio.Future[Any]) -> None:
        self.tasks.discard(future)
        if future.cancelled() and not self.transport.is_closing():  # the server shuts down
            self.transport.close()

    def _reply(self, cycle: FastCycle, status: int, headers: Headers, body: bytes) -> None:
        self._disconnect.callback = None
        cycle.response_complete = True
        if self.transport.is_closing():
            return
        keep_alive = cycle.keep_alive and CLOSE not in headers
        self._write_response(status, headers, body, keep_alive=keep_alive)
        if not keep_alive:
            self._close()
        self.on_response_complete()

    def _leave_fast_path(self) -> None:
        """Hand the received part of a request to uvicorn."""
        chunks = self._chunks
        self._start_task()
        self._clear_head()
        for chunk in chunks:
            self._pass_body(chunk)

    def _refuse(self, error: ServingError) -> None:
        if self._head is not None:
            self._leave_fast_path()
        super()._refuse(error)

    def _clear_head(self) -> None:
        self._head, self._chunks = None, ()
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _watch_head(self) -> None:
        """Bound the time of a head, or of the rest of an answered request."""
        if self._idle and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _unwatch_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None
