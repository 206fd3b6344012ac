"""The connections of both clients, and their errors."""

from __future__ import annotations

from typing import Any

import httpx

from offramp.authorization import authorization
from offramp.errors import TransportError, UsageError

# Without an answer: a name that is no host raises UnicodeError.
FAILURES = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)
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


def transport_error(request: httpx.Request, error: Exception) -> TransportError:
    """Return the error of a request without a response."""
    url = request.url.copy_with(query=None)
    return TransportError(f"{url} did not answer ({str(error) or type(error).__name__})")
