"""`POST /classify` of a small image in one piece, without a task.

The connection (`protocol`) hands over a request that is all there, and is called back with the
answer. What this cannot do at once (large images, other formats than plain JPEG and pixels, forms,
JSON) it leaves to `Classify`, which answers all requests alike; errors too are the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.request import Call
from serving.errors import ServingError
from serving.http.body import JSON, MULTIPART, PIXELS, content_length_of, media_type_of, read_pixels
from serving.http.classify import Classify, headers_of
from serving.http.connection import Headers, Reply, RequestHead
from serving.http.context import ServerContext
from serving.http.problems import INTERNAL_ERROR, error_response
from serving.http.query import ParsedQuery
from serving.http.routes import CLASSIFY

LARGEST = 1 << 16  # bytes of a body; uvicorn holds as much of any, before it is asked for
PATH = CLASSIFY.encode()
SLOW = (MULTIPART, JSON)  # are left to `Classify`
Decode = Callable[[], list[NDArray[np.uint8]] | None]
log = logging.getLogger(__name__)


class FastClassify:
    """The endpoint, for those requests that it takes: a `protocol.FastPath`.

    Args:
        context: what the endpoint works with.
        classify: the endpoint for all.
    """

    def __init__(self, context: ServerContext, classify: Classify) -> None:
        self._context = context
        self._classify = classify

    def head_of(self, url: bytes, headers: Headers) -> RequestHead | None:
        """As `protocol.FastPath` says."""
        path, _, query = url.partition(b"?")
        if path != PATH or b"#" in query:
            return None
        found, arrived = dict(headers), perf_counter()
        if not 0 < content_length_of(found.get(b"content-length", b"")) <= LARGEST:
            return None
        kind = media_type_of(found.get(b"content-type", b""))
        if kind in SLOW:
            return None
        return RequestHead(query, kind, found.get(b"authorization", b"").decode("latin-1"), arrived)

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """As `protocol.FastPath` says."""
        try:
            return self._started(head, body, reply)
        except Exception as error:  # noqa: BLE001 (told)
            self._reply_error(error, reply)
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ended.set_result(None)
            return ended

    def _started(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        context = self._context
        context.authenticate(head.authorization)
        asked = self._classify.query_reader.read(head.query)
        context.body_reader.take(len(body))
        try:
            found = self._decoding(head, body)
            if found is None:
                return None
            count, decoding = found
            with context.engine.admit(count, asked.policy) as slots:
                started = perf_counter()
                pixels = decoding()
                if pixels is None:
                    return None
                decode = perf_counter() - started
                context.metrics.decode(decode)
                call = context.engine.submit(slots, pixels, asked.policy, head.arrived)
            call.future.add_done_callback(lambda _: self._ended(call, asked, decode, reply))
            return call.future
        finally:
            context.body_reader.release(len(body))

    def _decoding(self, head: RequestHead, body: bytes) -> tuple[int, Decode] | None:
        """How many images there are and what decodes them (to None if it cannot)."""
        decoder = self._context.decoder
        if head.kind == PIXELS:
            images = read_pixels(body, self._context.manifest.input, self._context.max_images)
            return len(images), lambda: list(images)
        sizes = decoder.small([body])
        return None if sizes is None else (1, lambda: decoder.decode_small([body], sizes))

    def _ended(self, call: Call, asked: ParsedQuery, decode: float, reply: Reply) -> None:
        self._context.engine.close(call)
        if call.future.cancelled():  # the client hung up, or the server stops
            return
        try:
            content = self._classify.content(call.future.result(), asked, decode)
        except Exception as error:  # noqa: BLE001 (told)
            self._reply_error(error, reply)
        else:
            reply(200, headers_of(content), content)

    def _reply_error(self, error: Exception, reply: Reply) -> None:
        if not isinstance(error, ServingError):
            log.error("Exception in the fast path", exc_info=error)
            error = INTERNAL_ERROR
        problem = error_response(self._context.metrics, error)
        reply(problem.status_code, problem.raw_headers, bytes(problem.body))
