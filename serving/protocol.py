"""HTTP as uvicorn speaks it, but for two things.

It bounds how long a request's head may take. And an application can be called when its client
hangs up: ASGI's way is to await a message, which takes a task for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# As long as an idle connection may live, and for the same reason: what is left of a body that was
# refused counts as a head's first byte, and a load balancer may keep such a connection.
HEAD_SECONDS = 75.0
LINE = "offramp.line"  # extension of a scope


@dataclass(slots=True)
class Line:
    """Whether a connection's client has hung up, and what to call when it does."""

    lost: bool = False
    call: Callable[[], None] | None = None


def line_of(scope: Scope) -> Line | None:
    """Of the connection that a request came over; None where another server made the scope."""
    line = scope.get("extensions", {}).get(LINE)
    assert line is None or isinstance(line, Line)
    return line


class Protocol(HttpToolsProtocol):
    """A connection that awaits a request's head for `HEAD_SECONDS` at most, and is then closed.

    They count from its start, then from the first byte that comes after an answer. Bodies, and
    connections that are idle after an answer, have times of their own.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """The head is awaited."""
        super().connection_made(transport)
        self._line = Line()
        self._watch()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {LINE: self._line}  # type: ignore[dict-item] # ours is no dict

    def on_message_complete(self) -> None:
        """A body is whole; what would wait for the application to ask for more must not."""
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()  # or a hang-up would not be heard of behind a large body

    def data_received(self, data: bytes) -> None:
        """The head may be there now, or have begun."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        super().connection_lost(exc)
        self._unwatch()
        self._line.lost = True
        if self._line.call:
            self._line.call()

    def _watch(self) -> None:
        if getattr(self.cycle, "response_complete", True):  # None before the first request
            self._late = self._late or self.loop.call_later(HEAD_SECONDS, self.transport.close)
        else:
            self._unwatch()

    def _unwatch(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None
