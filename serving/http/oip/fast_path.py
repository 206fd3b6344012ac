"""The inference endpoint without a task, for small images in one piece with their head.

It takes requests like those that `serving.http.fast_path` takes. `Infer` answers all
others. Both give the same responses and errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from serving.engine.request import Call
from serving.http.connection import Reply, RequestHead
from serving.http.connection.request_id import id_header
from serving.http.context import ServerContext
from serving.http.fast_path import end_trace, error_of, head_with, replied, submit_small
from serving.http.inference_routes import route_of
from serving.http.oip.errors import content_of
from serving.http.oip.infer import Infer
from serving.http.oip.protocol import InferRequest
from serving.http.oip.requests import LENGTH
from serving.http.tracing.trace import NO_RESPONSE


class FastInfer:
    """The endpoint for small requests.

    Args:
        context: Objects that the endpoints share.
        infer: The endpoint for every kind of request.
        paths: Paths of the endpoint.
    """

    def __init__(self, context: ServerContext, infer: Infer, paths: frozenset[str]) -> None:
        self._context = context
        self._infer = infer
        self._paths = frozenset(path.encode() for path in paths)

    def head_of(self, url: bytes, headers: Mapping[bytes, bytes]) -> RequestHead | None:
        """Return the head of a request with a binary tensor, or `None`, as `FastPath` defines."""
        path, _, query = url.partition(b"?")
        length = headers.get(LENGTH)
        if path not in self._paths or length is None:
            return None
        route = route_of(path.decode()) or ""
        return head_with(self._context.tracing, route, query, "", headers, json_length=length)

    def start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        """Start to answer, or return `None`, as `FastPath` defines."""
        try:
            return self._start(head, body, reply)
        except Exception as error:  # noqa: BLE001 (becomes the response)
            self._reply_error(error, head, reply)
            return replied()

    def _start(self, head: RequestHead, body: bytes, reply: Reply) -> asyncio.Future[Any] | None:
        context = self._context
        context.authenticate(head.authorization)
        context.body_reader.hold(len(body))
        try:
            request = self._infer.reader.read(head.json_length, body, head.query)
            policy = request.parsed.policy
            if head.trace is not None:
                head.trace.name_request(request.id)
            started = submit_small(context, request.images, policy, head)
        finally:
            context.body_reader.release(len(body))
        if started is None:
            return None
        call, _ = started
        call.future.add_done_callback(partial(self._end, call, request, head, reply))
        return call.future

    def _end(
        self, call: Call, request: InferRequest, head: RequestHead, reply: Reply, _: object
    ) -> None:
        self._context.engine.close(call)
        if call.future.cancelled():  # the client disconnected, or the server shuts down
            end_trace(head, NO_RESPONSE)
            return
        try:
            headers, content = self._infer.writer.write(request, call.future.result())
        except Exception as error:  # noqa: BLE001 (becomes the response)
            self._reply_error(error, head, reply)
        else:
            reply(200, [*headers, *id_header(head.request_id)], content)
            end_trace(head, 200, call.future.result())

    def _reply_error(self, error: Exception, head: RequestHead, reply: Reply) -> None:
        answered, request_id = error_of(error, head.request_id)
        headers, content = content_of(self._context.metrics, answered)
        reply(answered.status, [*headers, *id_header(request_id)], content)
        end_trace(head, answered.status, request_id=request_id)
