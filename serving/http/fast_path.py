"""`POST /classify` without a task, for a small image in one piece with its head.

`Connection` gives this module a complete request and a function to reply with. Requests that need
more work (large images, other formats than plain JPEG and pixels, forms, JSON, streams) are left to
`Classify`, which answers every kind of request. Both give the same answers and errors.
"""

from __future__ import annotations

import asyncio
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.policy import Policy
from serving.engine.request import Answer, Call
from serving.errors import ServingError
from serving.http.anytime.events import asks_for_events
from serving.http.bodies.body import (
    JSON,
    MULTIPART,
    PIXELS,
    content_length_of,
    media_type_of,
    read_pixels,
)
from serving.http.classify import Classify, headers_of
from serving.http.connection import Reply, RequestHead
from serving.http.connection.request_id import (
    INTERNAL,
    id_header,
    made_request_id,
    name_in_log,
    valid_request_id,
)
from serving.http.context import ServerContext
from serving.http.openapi import CLASSIFY, MODELS
from serving.http.problems import INTERNAL_ERROR, CountsProblems, error_response
from serving.http.query import ParsedQuery
from serving.http.tracing.parent import TRACEPARENT, TRACESTATE
from serving.http.tracing.trace import NO_RESPONSE, Tracing

MAX_BODY_BYTES = 1 << 16  # as many as uvicorn keeps before the application reads the body
USUAL = (None, b"*/*")  # the header `Accept` of most clients
SLOW_TYPES = (MULTIPART, JSON)  # left to `Classify`
log = logging.getLogger(__name__)


class Protocol(typing.Protocol):
    """The endpoint of another protocol, for small requests."""

    def head_of(self, url: bytes, headers: Mapping[bytes, bytes]) -> RequestHead | None:
        """Return the head of a request, with a `json_length`, or `None`, as `FastPath` defines."""

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Start to answer, or return `None`, as `FastPath` defines."""


class FastClassify:
    """The endpoint for small requests, a `connection.FastPath`.

    Args:
        context: Objects that the endpoints share.
        classify: The endpoint for every kind of request.
        protocol: The endpoint of the inference protocol.
    """

    def __init__(self, context: ServerContext, classify: Classify, protocol: Protocol) -> None:
        self._context = context
        self._classify = classify
        self._protocol = protocol
        route = MODELS + CLASSIFY.path
        named = route.format(name=context.manifest.name)
        self._routes = {CLASSIFY.path.encode(): CLASSIFY.path, named.encode(): route}

    def head_of(self, url: bytes, headers: Mapping[bytes, bytes]) -> RequestHead | None:
        """Return the head of a request that `start` can take, as `FastPath` defines."""
        path, _, query = url.partition(b"?")
        if (route := self._routes.get(path)) is None:
            return self._protocol.head_of(url, headers)
        if headers.get(b"accept") not in USUAL and asks_for_events(headers[b"accept"]):
            return None
        media_type = media_type_of(headers.get(b"content-type", b""))
        if media_type in SLOW_TYPES:
            return None
        return head_with(self._context.tracing, route, query, media_type, headers)

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Start to answer, or return `None`, as `FastPath` defines."""
        try:
            if head.json_length is not None:
                return self._protocol.start(head, body, reply)
            return self._start(head, body, reply)
        except Exception as error:  # noqa: BLE001 (becomes the response)
            self._reply_error(error, head, reply)
            return replied()

    def refuse(self, error: ServingError, reply: Reply) -> None:
        """Count an error and reply with its problem, as `FastPath` defines."""
        reply_problem(self._context.metrics, error, reply)

    def _start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        context = self._context
        context.authenticate(head.authorization)
        parsed = self._classify.query_reader.read(head.query)
        context.body_reader.hold(len(body))
        try:
            images: list[bytes] | NDArray[np.uint8] = [body]
            if head.media_type == PIXELS:
                images = read_pixels(body, context.manifest.input, context.max_images)
            started = submit_small(context, images, parsed.policy, head)
        finally:
            context.body_reader.release(len(body))
        if started is None:
            return None
        call, decode = started
        end = partial(self._end, call, parsed, decode, head, reply)
        call.future.add_done_callback(end)
        return call.future

    def _end(
        self,
        call: Call,
        parsed: ParsedQuery,
        decode: float,
        head: RequestHead,
        reply: Reply,
        _: object,
    ) -> None:
        self._context.engine.close(call)
        if call.future.cancelled():  # the client disconnected, or the server shuts down
            end_trace(head, NO_RESPONSE)
            return
        try:
            content = self._classify.content(call.future.result(), parsed, decode)
        except Exception as error:  # noqa: BLE001 (becomes the response)
            self._reply_error(error, head, reply)
        else:
            headers = headers_of(content)
            if head.request_id:
                headers += id_header(head.request_id)
            reply(200, headers, content)
            if head.trace is not None:
                end_trace(head, 200, call.future.result())

    def _reply_error(self, error: Exception, head: RequestHead, reply: Reply) -> None:
        answered, request_id = error_of(error, head.request_id)
        reply_problem(self._context.metrics, answered, reply, request_id)
        end_trace(head, answered.status, request_id=request_id)


def reply_problem(
    metrics: CountsProblems, error: ServingError, reply: Reply, request_id: bytes = b""
) -> None:
    """Count an error and reply with its problem."""
    problem = error_response(metrics, error)
    headers = [*problem.raw_headers, *id_header(request_id)]
    reply(problem.status_code, headers, bytes(problem.body))


def head_with(
    tracing: Tracing | None,
    route: str,
    query: bytes,
    media_type: str,
    headers: Mapping[bytes, bytes],
    json_length: bytes | None = None,
) -> RequestHead | None:
    """Return the head of a request with a small body that is not encoded, or `None`."""
    arrived = perf_counter()
    if b"#" in query or b"content-encoding" in headers or b"origin" in headers:
        return None  # encoded, or the call of a web page
    if not 0 < content_length_of(headers.get(b"content-length", b"")) <= MAX_BODY_BYTES:
        return None
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    request_id = headers.get(b"x-request-id", b"")
    if request_id:
        request_id = valid_request_id(request_id)
    trace = None
    if tracing is not None:
        fields = headers.get(TRACEPARENT, b""), headers.get(TRACESTATE, b"")
        trace = tracing.begin(f"POST {route}", fields, arrived, request_id)
    return RequestHead(query, media_type, authorization, arrived, request_id, json_length, trace)


def submit_small(
    context: ServerContext,
    images: list[bytes] | NDArray[np.uint8],
    policy: Policy,
    head: RequestHead,
) -> tuple[Call, float] | None:
    """Decode the images of a call at once, and submit them.

    Args:
        context: Objects that the endpoints share.
        images: Image files, or pixels [n, height, width, 3].
        policy: The policy of each.
        head: Head of the call.

    Returns:
        The call, and the time to decode its images in seconds. `None` if they are not small, or one
        is damaged.

    Raises:
        ServingError: The call is refused.
    """
    decode_images: Callable[[], list[NDArray[np.uint8]] | None]
    if isinstance(images, list):
        sizes = context.decoder.small(images)
        if sizes is None:
            return None
        decode_images = partial(context.decoder.decode_small, images, sizes)
    else:
        decode_images = partial(list, images)
    with context.engine.admit(len(images), policy) as slots:
        started = perf_counter()
        pixels = decode_images()
        if pixels is None:
            return None
        decode = perf_counter() - started
        context.metrics.decode(decode)
        runs = () if head.trace is None else head.trace.submit(len(pixels), started, decode)
        return context.engine.submit(slots, pixels, policy, head.arrived, runs=runs), decode


def end_trace(
    head: RequestHead, status: int, answers: Sequence[Answer] = (), request_id: bytes = b""
) -> None:
    """End the trace of a request, if it is traced, after its response with this status."""
    if head.trace is not None:
        head.trace.answers = answers
        head.trace.end_http(status, request_id)


def replied() -> asyncio.Future[None]:
    """Return the future of a request that has its response."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    return ended


def error_of(error: Exception, request_id: bytes) -> tuple[ServingError, bytes]:
    """Return the error to reply with, and its request id. Log an error that no client caused."""
    answered = error if isinstance(error, ServingError) else INTERNAL_ERROR
    if answered.status == INTERNAL:
        request_id = request_id or made_request_id()
    if answered is INTERNAL_ERROR:
        name_in_log(error, request_id)
        log.error("Exception in the fast path", exc_info=error)
    return answered, request_id
