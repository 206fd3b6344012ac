"""A connection that speaks HTTP as uvicorn does, with three additions.

It bounds the time of a request's head. It calls an application when its client disconnects, which
in plain ASGI takes a task for each request. It offers small requests to the application's fast
path, which needs no task.
"""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from starlette.types import Scope

from serving.http.uvicorn_internals import STATUS_LINE, FastCycle, HttpToolsProtocol

# Equal to the time of an idle connection: the rest of a refused body counts as the first byte of
# a head, and a load balancer can keep such a connection.
HEAD_SECONDS = 75.0
BODY_SECONDS = 0.05  # time to wait for a body, which many clients send separately
DISCONNECT, ARRIVED = "offramp.disconnect", "offramp.arrived"  # extensions of a scope
Headers = Sequence[tuple[bytes, bytes]]
Reply = Callable[[int, Headers, bytes], None]  # status, headers, body


@dataclass(slots=True)
class Disconnect:
    """The disconnect of a connection's client, with a callback for it."""

    happened: bool = False
    callback: Callable[[], object] | None = None


def disconnect_of(scope: Scope) -> Disconnect | None:
    """Return the disconnect of a request's connection. `None` if another server made the scope."""
    disconnect = scope.get("extensions", {}).get(DISCONNECT)
    assert disconnect is None or isinstance(disconnect, Disconnect)
    return disconnect


def arrived_of(scope: Scope) -> float:
    """Return the arrival of a request's head by `time.perf_counter`, or now if not known."""
    found: float | None = scope.get("extensions", {}).get(ARRIVED)
    return perf_counter() if found is None else found


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The parts of a request's head that a fast path needs.

    Attributes:
        query: Raw query string.
        media_type: Content type without parameters.
        authorization: Header of this name, or an empty string.
        arrived: Time of arrival, by `time.perf_counter`.
    """

    query: bytes
    media_type: str
    authorization: str
    arrived: float


class FastPath(typing.Protocol):
    """The attribute `fast_path` of an application. Answers some requests without a task."""

    def head_of(self, url: bytes, headers: Headers) -> RequestHead | None:
        """Return the head of a POST (names in lower case) that `start` can take, or `None`."""

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Start to answer. `None` if the request needs the normal path, without any effect.

        `reply` is called once, now or later, unless the future is cancelled before.
        """


class Connection(HttpToolsProtocol):
    """A connection that closes if a request's head takes longer than `HEAD_SECONDS`.

    The time starts with the connection, then with the first byte after each response. Bodies and
    idle connections have other limits.
    """

    _disconnect: Disconnect
    _fast_path: FastPath | None
    _head_timer: asyncio.TimerHandle | None = None
    _head: RequestHead | None = None  # of a fast-path request without its whole body
    _chunks: Sequence[bytes] = ()  # of that body
    _body_timer: asyncio.TimerHandle | None = None  # limit for the rest of that body
    _took_fast_path = False  # whether the latest data had a request for the fast path

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._disconnect = Disconnect()
        self._fast_path = getattr(self.config.app, "fast_path", None)
        self._watch_head()

    @property
    def pending(self) -> bool:
        """Return whether a head or a part of a body is kept for the fast path."""
        return self._head is not None or len(self._chunks) > 0

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {DISCONNECT: self._disconnect}  # type: ignore[dict-item] # no dict

    def on_headers_complete(self) -> None:
        """Offer a complete head to the fast path, else let uvicorn start the application."""
        if self._took_fast_path and self.transport.is_closing():
            return  # data after the last request of the connection
        if self._fast_path is not None and self._suits_fast_path():
            self._head = self._fast_path.head_of(self.url, self.headers)
        if self._head is None:
            super().on_headers_complete()
        else:
            self._unwatch_head()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._head is None:
            super().on_body(body)
        else:
            self._chunks = [*self._chunks, body]

    def on_message_complete(self) -> None:
        """Start the fast path with a complete body, or hand it to uvicorn."""
        if self._head is not None:
            if self._start_fast_path(self._head, b"".join(self._chunks)):
                return
            self._leave_fast_path()
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()  # else a disconnect after a large body is not noticed

    def data_received(self, data: bytes) -> None:
        """Parse data, then start or stop the timers."""
        self._took_fast_path = False
        super().data_received(data)
        if self._head is None:
            if not (self._took_fast_path and self._idle):  # else answered, and no head has begun
                self._watch_head()
        elif self._body_timer is None:
            self._body_timer = self.loop.call_later(BODY_SECONDS, self._leave_fast_path)

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

    def _suits_fast_path(self) -> bool:
        """Return whether to offer a request to the fast path."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and self._idle
            and not self._took_fast_path  # one per turn, or many refusals block the event loop
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not (self.flow.write_paused or self.transport.is_closing())
            and not (self.config.access_log or self.root_path)
            and self.limit_concurrency is None
        )

    def _start_fast_path(self, head: RequestHead, body: bytes) -> bool:
        """Start a request on the fast path. False if the fast path does not take it."""
        assert self._fast_path is not None
        cycle = FastCycle(keep_alive=self.parser.should_keep_alive())
        future = self._fast_path.start(head, body, partial(self._reply, cycle))
        if future is None:
            return False
        self._clear_head()
        self._took_fast_path = True
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
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
        self.transport.write(b"".join(parts))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _leave_fast_path(self) -> None:
        """Hand the received part of a request to uvicorn."""
        head, chunks = self._head, self._chunks
        assert head is not None
        self._clear_head()
        self.scope["extensions"][ARRIVED] = head.arrived  # type: ignore[assignment] # no dict
        super().on_headers_complete()
        for chunk in chunks:
            super().on_body(chunk)

    def _clear_head(self) -> None:
        self._head, self._chunks = None, ()
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    @property
    def _idle(self) -> bool:
        """Return whether no request waits for its response."""
        return getattr(self.cycle, "response_complete", True)  # None before the first request

    def _watch_head(self) -> None:
        if self._idle:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        else:
            self._unwatch_head()

    def _unwatch_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None
