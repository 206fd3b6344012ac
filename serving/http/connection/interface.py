"""The records and protocols that a connection and its application share."""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

from starlette.types import Scope

from serving.errors import ServingError
from serving.http.tracing.trace import Trace

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


class RequestHead(NamedTuple):
    """The parts of a request's head that a fast path needs.

    Attributes:
        query: Raw query string.
        media_type: Content type without parameters.
        authorization: Header of this name, or an empty string.
        arrived: Time of arrival, by `time.perf_counter`.
        request_id: Valid id that the client sent, or empty.
        json_length: Header `Inference-Header-Content-Length` of the inference protocol. `None`:
            the request is of the native API.
        trace: Its trace, if it is sampled.
        model: Name and version of the model, the version empty for the one that answers. `None`:
            the server has one.
    """

    query: bytes
    media_type: str
    authorization: str
    arrived: float
    request_id: bytes = b""
    json_length: bytes | None = None
    trace: Trace | None = None
    model: tuple[str, str] | None = None


class FastPath(typing.Protocol):
    """The attribute `fast_path` of an application. Answers some requests without a task."""

    def head_of(self, url: bytes, headers: Mapping[bytes, bytes]) -> RequestHead | None:
        """Return the head of a POST that `start` can take, or `None`.

        The names of headers are in lower case. No header is given twice.
        """

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Start to answer. `None` if the request needs the normal path, without any effect.

        `reply` is called once, now or later, unless the future is cancelled before.
        """

    def refuse(self, error: ServingError, reply: Reply) -> None:
        """Count an error of a request that no endpoint received, and reply with its problem."""
