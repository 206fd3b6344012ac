"""The connections of both clients, and their errors."""

from __future__ import annotations

from typing import Any

import httpx

from offramp.errors import TransportError

# Where a limit is reached, httpcore can close a connection under another thread's request (its
# issue 1110). `connections` bounds their number instead.
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def client_options(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Return the options of `httpx.Client` and `httpx.AsyncClient`."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": url, "headers": headers, "timeout": timeout, "limits": UNLIMITED}


def transport_error(request: httpx.Request, error: httpx.HTTPError) -> TransportError:
    """Return the error of a request without a response."""
    url = request.url.copy_with(query=None)
    return TransportError(f"{url} did not answer ({str(error) or type(error).__name__})")
