"""HTTP requests, and the exchange of one with a server."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from offramp.load.connection import HOST
from offramp.load.outcomes import NO_ANSWER

CHUNK = 1000  # bytes of one chunk of a chunked body
SECONDS = 60.0  # longest wait for one response
CLASSIFY = "/classify"


@dataclass(frozen=True, slots=True)
class Request:
    """HTTP request.

    Attributes:
        name: Its description in the report.
        method: HTTP method.
        target: Path and query.
        headers: Header fields, on top of those that all requests have.
        body: Body, empty for no body.
        chunked: Send the body in chunks, without a Content-Length.
    """

    name: str
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunked: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.target[:80]} ({self.name})"


@dataclass(frozen=True, slots=True)
class Response:
    """HTTP response.

    Attributes:
        status: HTTP status, or `NO_ANSWER` where the connection broke.
        headers: Header fields by name in lower case.
        body: Body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def classify(
    name: str, body: bytes, content_type: str | None = "image/jpeg", query: str = ""
) -> Request:
    """Return a `POST /classify`."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    return Request(name, "POST", f"{CLASSIFY}?{query}" if query else CLASSIFY, headers, body)


class Client:
    """Sends requests to a server, one after another, over one connection.

    Args:
        port: Port of the server, on loopback.
        headers: Header fields of each request. Those of the request take precedence.
    """

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
        self._headers = headers

    def send(self, request: Request) -> Response:
        """Send a request and return its response.

        A connection that breaks is opened again once: the server can have closed it while idle.
        """
        for _ in range(2):
            try:
                return self._exchange(request)
            except (http.client.HTTPException, OSError) as error:
                self._connection.close()
                broken = Response(NO_ANSWER, {}, type(error).__name__.encode())
        return broken

    def _exchange(self, request: Request) -> Response:
        headers = {**self._headers, **request.headers}
        body = _chunks(request.body) if request.chunked else request.body or None
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before the body was sent
            self._connection.request(request.method, request.target, body, headers)
        received = self._connection.getresponse()
        fields = {name.lower(): value for name, value in received.getheaders()}
        return Response(received.status, fields, received.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _chunks(body: bytes) -> Iterator[bytes]:
    """Split a body into the chunks that http.client frames."""
    for at in range(0, len(body), CHUNK):
        yield body[at : at + CHUNK]
