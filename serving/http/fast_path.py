"""`POST /classify` without a task, for a small image in one piece with its head.

`Connection` gives this module a complete request and a function to reply with. Requests that need
more work (large images, other formats than plain JPEG and pixels, forms, JSON, streams) are left to
`Classify`, which answers every kind of request. Both give the same answers and errors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.request import Call
from serving.errors import ServingError
from serving.http.anytime.events import asks_for_events
from serving.http.body import JSON, MULTIPART, PIXELS, content_length_of, media_type_of, read_pixels
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
from serving.http.openapi import CLASSIFY
from serving.http.problems import INTERNAL_ERROR, error_response
from serving.http.query import ParsedQuery

MAX_BODY_BYTES = 1 << 16  # as many as uvicorn keeps before the application reads the body
PATH = CLASSIFY.path.encode()
USUAL = (None, b"*/*")  # the header `Accept` of most clients
SLOW_TYPES = (MULTIPART, JSON)  # left to `Classify`
Decode = Callable[[], list[NDArray[np.uint8]] | None]
log = logging.getLogger(__name__)


class FastClassify:
    """The endpoint for small requests, a `connection.FastPath`.

    Args:
        context: Objects that the endpoints share.
        classify: The endpoint for every kind of request.
    """

    def __init__(self, context: ServerContext, classify: Classify) -> None:
        self._context = context
        self._classify = classify

    def head_of(self, url: bytes, headers: Mapping[bytes, bytes]) -> RequestHead | None:
        """Return the head of a request that `start` can take, as `FastPath` defines."""
        path, _, query = url.partition(b"?")
        if path != PATH or b"#" in query:
            return None
        arrived = perf_counter()
        if b"content-encoding" in headers or b"origin" in headers:
            return None  # encoded, or the call of a web page
        if headers.get(b"accept") not in USUAL and asks_for_events(headers[b"accept"]):
            return None
        if not 0 < content_length_of(headers.get(b"content-length", b"")) <= MAX_BODY_BYTES:
            return None
        media_type = media_type_of(headers.get(b"content-type", b""))
        if media_type in SLOW_TYPES:
            return None
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        request_id = headers.get(b"x-request-id", b"")
        if request_id:
            request_id = valid_request_id(request_id)
        return RequestHead(query, media_type, authorization, arrived, request_id)

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Start to answer, or return `None`, as `FastPath` defines."""
        try:
            return self._start(head, body, reply)
        except Exception as error:  # noqa: BLE001 (becomes the response)
            self._reply_error(error, head.request_id, reply)
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ended.set_result(None)
            return ended

    def refuse(self, error: ServingError, reply: Reply) -> None:
        """Count an error and reply with its problem, as `FastPath` defines."""
        self._refuse(error, reply)

    def _refuse(self, error: ServingError, reply: Reply, request_id: bytes = b"") -> None:
        problem = error_response(self._context.metrics, error)
        headers = [*problem.raw_headers, *id_header(request_id)]
        reply(problem.status_code, headers, bytes(problem.body))

    def _start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        context = self._context
        context.authenticate(head.authorization)
        parsed = self._classify.query_reader.read(head.query)
        context.body_reader.hold(len(body))
        try:
            found = self._decoding(head, body)
            if found is None:
                return None
            count, decode_images = found
            with context.engine.admit(count, parsed.policy) as slots:
                started = perf_counter()
                pixels = decode_images()
                if pixels is None:
                    return None
                decode = perf_counter() - started
                context.metrics.decode(decode)
                call = context.engine.submit(slots, pixels, parsed.policy, head.arrived)
            end = partial(self._end, call, parsed, decode, head, reply)
            call.future.add_done_callback(end)
            return call.future
        finally:
            context.body_reader.release(len(body))

    def _decoding(self, head: RequestHead, body: bytes) -> tuple[int, Decode] | None:
        """Return the number of images and a function that decodes them. `None` if not small."""
        decoder = self._context.decoder
        if head.media_type == PIXELS:
            images = read_pixels(body, self._context.manifest.input, self._context.max_images)
            return len(images), partial(list, images)
        sizes = decoder.small([body])
        return None if sizes is None else (1, partial(decoder.decode_small, [body], sizes))

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
            return
        try:
            content = self._classify.content(call.future.result(), parsed, decode)
        except Exception as error:  # noqa: BLE001 (becomes the response)
            self._reply_error(error, head.request_id, reply)
        else:
            headers = headers_of(content)
            if head.request_id:
                headers += id_header(head.request_id)
            reply(200, headers, content)

    def _reply_error(self, error: Exception, request_id: bytes, reply: Reply) -> None:
        answered = error if isinstance(error, ServingError) else INTERNAL_ERROR
        if answered.status == INTERNAL:
            request_id = request_id or made_request_id()
        if answered is INTERNAL_ERROR:
            name_in_log(error, request_id)
            log.error("Exception in the fast path", exc_info=error)
        self._refuse(answered, reply, request_id)
