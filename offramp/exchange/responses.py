"""Responses of a server, read as records or as errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import httpx

from offramp.errors import OfframpError, TransportError
from offramp.exchange.flows import T
from offramp.exchange.retries import retry_after
from offramp.exchange.transport import shown
from serving.errors import InvalidRequestError, PoolFullError, ServingError

NUMBERED = re.compile(r"^image (\d+): ")


def error_of(response: httpx.Response, before: int | None = None) -> OfframpError:
    """Build the error that a response reports as a problem (RFC 9457).

    Args:
        response: A response without success.
        before: Images in the calls before this one. They are added to an image's number in the
            text. `None` removes the number.
    """
    try:
        body = response.json()
        kind, detail = body["type"].rpartition("/")[2], str(body["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return _unexpected(response)
    text = NUMBERED.sub(lambda found: _number(int(found[1]), before), detail, count=1)
    if kind == PoolFullError.type:
        return PoolFullError(text, int(retry_after(response)) or 1)
    other = InvalidRequestError if response.is_client_error else ServingError
    return (_error_class(kind, response.status_code) or other)(text)


def _number(number: int, before: int | None) -> str:
    return "" if before is None else f"image {number + before}: "


@lru_cache
def _error_class(kind: str, status: int) -> type[ServingError] | None:
    """Return the class of a problem type. Of several it is the one with this status."""
    classes, found = [ServingError], list[type[ServingError]]()
    while classes:
        each = classes.pop()
        found += [each] if each.type == kind else []
        classes += each.__subclasses__()
    return min(found, key=lambda each: each.status != status, default=None)


def parsed(response: httpx.Response, read: Callable[[Any], T]) -> T:
    """Read a response with a function of its JSON.

    Raises:
        TransportError: It is not that of an Offramp server.
    """
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError) as error:
        raise _unexpected(response) from error


def _unexpected(response: httpx.Response) -> TransportError:
    return TransportError(
        f"{shown(response.url)} answered {response.status_code} "
        f"{response.reason_phrase}, not as an Offramp server does; check the URL"
    )
