"""The head of a request: its fields within bounds, its checks, and the begin of the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from starlette.types import Message

from serving.errors import ServingError, TargetTooLongError
from serving.http.connection.closing import CycleTransport
from serving.http.connection.heads import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    MAX_TARGET_BYTES,
    check_head,
    length_of,
    too_many_fields,
    values_of,
    with_path,
)
from serving.http.connection.refusing import RefusingProtocol
from serving.http.uvicorn_internals import RequestResponseCycle


class HeadReadingProtocol(RefusingProtocol):
    """A protocol of uvicorn that bounds and checks heads."""

    _room = MAX_HEAD_BYTES  # bytes that the head, or all but the chunks of a body, can still have
    _begun = False  # a head began in the latest piece
    _trailers = 0

    def on_message_begin(self) -> None:
        """Begin a request. The fast path needs no scope: `_start_application` makes it."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._begun, self._trailers, self._body_left = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            raise TargetTooLongError(f"the target has more than {MAX_TARGET_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Ignore a trailer, which must not change the request."""
        headers = self.headers
        if self._in_body or len(headers) == MAX_FIELDS:
            self._trailers += 1
            if len(headers) + self._trailers > MAX_FIELDS:
                raise too_many_fields()
        else:
            headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check a head, then begin its request. Leave out an offer of another protocol."""
        parser, headers = self.parser, self.headers
        method, version, found = parser.get_method(), parser.get_http_version(), dict(headers)
        if b"content-length" in found:
            self._body_left = length_of(found[b"content-length"])  # the only one: see the parser
        once = len(found) == len(headers)
        if once and b"host" in found and b"transfer-encoding" not in found:
            check_head(method, version, (found[b"host"],), ())
        else:
            hosts, codings = values_of(b"host", headers), values_of(b"transfer-encoding", headers)
            check_head(method, version, hosts, codings)
        if b"expect" in found and version != "1.0":  # RFC 9110, 10.1.1
            expected = map(bytes.lower, values_of(b"expect", headers))
            self.expect_100_continue = b"100-continue" in expected
        if not self.url.startswith(b"/"):
            self.url = with_path(self.url)
        self._room = MAX_HEAD_BYTES
        if not parser.should_upgrade():
            self._begin_request(method, version, found if once else None)
            self._in_body = True

    def _begin_request(
        self, method: bytes, version: str, found: Mapping[bytes, bytes] | None
    ) -> None:
        """Begin a request. `found`: its headers, `None` if one is given twice."""
        raise NotImplementedError  # `Connection` chooses between fast path and application

    def _start_application(self, extensions: dict[str, object]) -> None:
        """Let uvicorn start the application, with these extensions in the scope."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item] # of other values
        super().on_headers_complete()
        if self._pipelined + len(self.pipeline) >= MAX_PIPELINED:
            self.cycle.keep_alive = False
        if expects:
            self.cycle.send = partial(_send_to_expecting, self.cycle, self.cycle.send)  # type: ignore[method-assign] # of this request only
        self.cycle.transport = CycleTransport(self.transport, self._close)  # type: ignore[assignment] # has what uvicorn calls

    def _refuse(self, error: ServingError) -> None:
        if not self._in_body:  # the head, which can state the length of a body, is not complete
            lengths = values_of(b"content-length", self.headers or ())  # None at first
            self._body_left = length_of(lengths[-1]) if lengths else 0
        super()._refuse(error)


async def _send_to_expecting(
    cycle: RequestResponseCycle, send: Callable[[Any], Awaitable[None]], message: Message
) -> None:
    """Send a message, and close after a response that comes before `100 Continue`.

    The client can keep its body back then, so the next bytes would be taken for it.
    """
    if cycle.waiting_for_100_continue and cycle.more_body:
        cycle.keep_alive = False
    await send(message)
