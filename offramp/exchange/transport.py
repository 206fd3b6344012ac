"""The connections of both clients, and their errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from offramp.authorization import authorization
from offramp.errors import TransportError, UsageError

# Without an answer: a name that is no host raises UnicodeError.
FAILURES = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)
CLOSED = (httpx.RemoteProtocolError, httpx.NetworkError)  # of a connection, without an answer
# Where a limit is reached, httpcore can close a connection under another thread's request (its
# issue 1110). `connections` bounds their number instead.
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def client_options(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Return the options of `httpx.Client` and `httpx.AsyncClient`.

    Raises:
        UsageError: No client can send the key, or the URL is none.
    """
    remedy = "give the URL of a server, as http://localhost:8000"
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url}: {error}; {remedy}") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise UsageError(f"{url or 'an empty text'}: no http or https URL; {remedy}")
    headers = authorization(api_key)
    return {"base_url": base, "headers": headers, "timeout": timeout, "limits": UNLIMITED}


@contextmanager
def environment() -> Iterator[None]:
    """Name the variables of the environment that a client of httpx reads as it is made.

    Raises:
        UsageError: One names a proxy or certificates that cannot be used.
    """
    try:
        yield
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise UsageError(
            f"no connection can be made ({error}); check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, "
            "NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR in the environment"
        ) from error


def shown(url: httpx.URL) -> httpx.URL:
    """Return a URL for an error text: without its query, and without user and password."""
    return url.copy_with(query=None, userinfo=b"")


class Sending:
    """The sending of a request, and once more if a server had closed an idle connection meanwhile.

    Servers and proxies close a connection that was idle for long, or at a restart, without a word.
    A classification has no effect on a server, so that it can be sent again.

    Args:
        request: The request. Its extension `trace` must be `see` or `see_async`.
    """

    def __init__(self, request: httpx.Request) -> None:
        self._request = request
        self._again = True
        self._opened = self._answered = False

    def see(self, event: str, _: object) -> None:
        """Note an event of httpcore."""
        self._opened |= event.startswith("connection.connect")
        self._answered |= event == "http11.receive_response_headers.complete"

    async def see_async(self, event: str, info: object) -> None:
        """Note an event of httpcore."""
        self.see(event, info)

    def check(self, error: Exception) -> None:
        """Return if the request can be sent again after an error.

        Raises:
            TransportError: It cannot.
        """
        idle = isinstance(error, CLOSED) and not (self._opened or self._answered)
        if not (idle and self._again):
            reason, url = str(error) or type(error).__name__, shown(self._request.url)
            raise TransportError(f"{url} did not answer ({reason})") from error
        self._again = False
