"""HTTP as uvicorn speaks it, but for three things.

It bounds how long a request's head may take. An application can be called when its client
hangs up: ASGI's way is to await a message, which takes a task for each request. And an
application may have a fast path, which answers small requests without a task at all.
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
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

# As long as an idle connection may live, and for the same reason: what is left of a body that was
# refused counts as a head's first byte, and a load balancer may keep such a connection.
HEAD_SECONDS = 75.0
BODY_SECONDS = 0.05  # that the fast path waits for a body; many clients send it by itself
LINE, ARRIVED = "offramp.line", "offramp.arrived"  # extensions of a scope
Headers = Sequence[tuple[bytes, bytes]]
Reply = Callable[[int, Headers, bytes], None]  # status, headers, body


@dataclass(slots=True)
class Disconnect:
    """Whether a connection's client has hung up, and what to call when it does."""

    lost: bool = False
    call: Callable[[], object] | None = None


def disconnect_of(scope: Scope) -> Disconnect | None:
    """Of the connection that a request came over; None where another server made the scope."""
    line = scope.get("extensions", {}).get(LINE)
    assert line is None or isinstance(line, Disconnect)
    return line


def arrived_of(scope: Scope) -> float:
    """When the head of a request came, by `time.perf_counter`, as far as is known."""
    found: float | None = scope.get("extensions", {}).get(ARRIVED)
    return perf_counter() if found is None else found


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a fast path wants to know of a request's head.

    Attributes:
        query: raw.
        kind: content type, without parameters.
        authorization: the header, or nothing.
        arrived: when it came, by `time.perf_counter`.
    """

    query: bytes
    kind: str
    authorization: str
    arrived: float


class FastPath(typing.Protocol):
    """Answers some requests without a task: `fast_path` of an application."""

    def head_of(self, url: bytes, headers: Headers) -> RequestHead | None:
        """The head of a POST, if it may be taken here once its body is there.

        Args:
            url: raw.
            headers: names in lower case.
        """

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Begin to answer; None: it is not for here, and nothing was done.

        Args:
            head: of the request.
            body: all of it.
            reply: called once, now or later, unless the future is cancelled before.
        """


class _Exchange:
    """A request on the fast path, as uvicorn's protocol sees it: in the place of its own cycle."""

    message_event = asyncio.Event()  # that nobody waits for

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False


class Connection(HttpToolsProtocol):
    """A connection that awaits a request's head for `HEAD_SECONDS` at most, and is then closed.

    They count from its start, then from the first byte that comes after an answer. Bodies, and
    connections that are idle after an answer, have times of their own.
    """

    _late: asyncio.TimerHandle | None = None
    _head: RequestHead | None = None  # of a request for the fast path, whose body is not all there
    _chunks: Sequence[bytes] = ()  # of that body
    _split: asyncio.TimerHandle | None = None  # for whose body we wait
    _took = False  # whether of the bytes that came last a request went the fast path

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """The head is awaited."""
        super().connection_made(transport)
        self._line = Disconnect()
        self._fast: FastPath | None = getattr(self.config.app, "fast_path", None)
        self._watch()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {LINE: self._line}  # type: ignore[dict-item] # ours is no dict

    def on_headers_complete(self) -> None:
        """A head is whole; if it is for the fast path, its body is waited for first."""
        if self._took and self.transport.is_closing():
            return  # what comes after a request that was to be the last
        if self._fast is not None and self._simple():
            self._head = self._fast.head_of(self.url, self.headers)
        if self._head is None:
            super().on_headers_complete()
        else:
            self._unwatch()

    def on_body(self, body: bytes) -> None:
        """A part of a body is there."""
        if self._head is None:
            super().on_body(body)
        else:
            self._chunks = [*self._chunks, body]

    def on_message_complete(self) -> None:
        """A body is whole; what would wait for the application to ask for more must not."""
        if self._head is not None:
            if self._start(self._head, b"".join(self._chunks)):
                return
            self._leave_fast_path()
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()  # or a hang-up would not be heard of behind a large body

    def data_received(self, data: bytes) -> None:
        """The head may be there now, or have begun."""
        self._took = False
        super().data_received(data)
        if self._head is None:
            if not (self._took and self._idle):  # it was answered already, nothing has begun
                self._watch()
        elif self._split is None:
            self._split = self.loop.call_later(BODY_SECONDS, self._leave_fast_path)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._forget_head()
        super().connection_lost(exc)
        self._unwatch()
        self._line.lost = True
        if self._line.call:
            self._line.call()

    def shutdown(self) -> None:
        """The server is about to stop; what came is answered."""
        if self._head is not None:
            self._leave_fast_path()
        super().shutdown()

    def _simple(self) -> bool:
        """Whether a request is one that the fast path can be asked about."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and self._idle
            and not self._took  # one at a time: many refusals would hold up the event loop
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not (self.flow.write_paused or self.transport.is_closing())
            and not (self.config.access_log or self.root_path)
            and self.limit_concurrency is None
        )

    def _start(self, head: RequestHead, body: bytes) -> bool:
        """Whether the fast path takes the request."""
        assert self._fast is not None
        exchange = _Exchange(keep_alive=self.parser.should_keep_alive())
        future = self._fast.start(head, body, partial(self._reply, exchange))
        if future is None:
            return False
        self._forget_head()
        self._took = True
        self.cycle = exchange  # type: ignore[assignment] # has what uvicorn looks at
        if not future.done():
            self._line.call = future.cancel
            self.tasks.add(future)  # type: ignore[arg-type] # are waited for, or cancelled
            future.add_done_callback(self._done)
        return True

    def _done(self, future: asyncio.Future[Any]) -> None:
        self.tasks.discard(future)
        if future.cancelled() and not self.transport.is_closing():  # the server stops
            self.transport.close()

    def _reply(self, exchange: _Exchange, status: int, headers: Headers, body: bytes) -> None:
        self._line.call = None
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n" if exchange.keep_alive else b"connection: close\r\n\r\n", body)
        self.transport.write(b"".join(parts))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _leave_fast_path(self) -> None:
        """Let uvicorn have what came of a request so far."""
        head, chunks = self._head, self._chunks
        assert head is not None
        self._forget_head()
        self.scope["extensions"][ARRIVED] = head.arrived  # type: ignore[assignment] # as above
        super().on_headers_complete()
        for chunk in chunks:
            super().on_body(chunk)

    def _forget_head(self) -> None:
        self._head, self._chunks = None, ()
        if self._split is not None:
            self._split.cancel()
            self._split = None

    @property
    def _idle(self) -> bool:
        """Whether no request waits for its answer."""
        return getattr(self.cycle, "response_complete", True)  # None before the first request

    def _watch(self) -> None:
        if self._idle:
            self._late = self._late or self.loop.call_later(HEAD_SECONDS, self.transport.close)
        else:
            self._unwatch()

    def _unwatch(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None
