"""The inference endpoint as a plain ASGI app, for every kind of request.

It passes the steps of `serving.http.classify`: key, body (bounded while it is read), images, slots
or a refusal, decoding, the engine.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serving.errors import MalformedBodyError, ServingError
from serving.http.classify import READ_AT_ONCE, Classify, send_response
from serving.http.connection import (
    CancelOnDisconnect,
    Headers,
    arrived_of,
    check_encoding,
    disconnect_of,
)
from serving.http.context import ServerContext
from serving.http.oip.errors import content_of
from serving.http.oip.inputs import BASE64, InputReader
from serving.http.oip.parameters import ParameterReader
from serving.http.oip.protocol import InferRequest
from serving.http.oip.requests import LENGTH, RequestReader, json_bytes
from serving.http.oip.responses import ResponseWriter
from serving.http.problems import INTERNAL_ERROR
from serving.http.tracing.endpoint import trace_of


class Infer:
    """The endpoint for every kind of request.

    Args:
        context: Objects that the endpoints share.
        classify: The native endpoint, which decodes images and asks the engine.

    Attributes:
        reader: Reader of requests.
        writer: Writer of responses.
    """

    def __init__(self, context: ServerContext, classify: Classify) -> None:
        self._context = context
        self._classify = classify
        inputs = InputReader(context.manifest.input, context.max_images)
        parameters = ParameterReader(classify.query_reader)
        self.reader = RequestReader(inputs, parameters, context.manifest.version)
        self.writer = ResponseWriter(context.manifest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call with outputs or with an error."""
        metrics = self._context.metrics
        try:
            headers, content = await self._response(scope, receive, arrived_of(scope))
        except ServingError as error:
            await send_response(send, error.status, *content_of(metrics, error))
        except ClientDisconnect:
            pass  # no client is left to answer
        except Exception:
            await send_response(send, INTERNAL_ERROR.status, *content_of(metrics, INTERNAL_ERROR))
            raise  # for the log
        else:
            await send_response(send, 200, headers, content)

    async def _response(
        self, scope: Scope, receive: Receive, arrived: float
    ) -> tuple[Headers, bytes]:
        context, headers = self._context, dict[bytes, bytes](scope["headers"])
        context.authenticate_all(scope["headers"])
        check_encoding(scope["headers"])
        if sum(name == LENGTH for name, _ in scope["headers"]) > 1:
            raise MalformedBodyError(f"there are several headers {LENGTH.decode()}; send one")
        body = await context.body_reader.read(headers.get(b"content-length", b""), receive)
        size = len(body)
        try:
            request = await self._request(headers.get(LENGTH), body, scope["query_string"])
            del body  # the images are copies, or views of it
            if (trace := trace_of(scope)) is not None:
                trace.name_request(request.id)
            with CancelOnDisconnect(receive, disconnect_of(scope)):
                answers, _ = await self._classify.answers(
                    request.images, request.parsed, arrived, trace=trace
                )
        finally:
            context.body_reader.release(size)
        return self.writer.write(request, answers)

    async def _request(self, length: bytes | None, body: bytes, query: bytes) -> InferRequest:
        if len(body) <= READ_AT_ONCE or _is_read_fast(body, json_bytes(length, len(body))):
            return self.reader.read(length, body, query)
        loop = asyncio.get_running_loop()
        thread = self._classify.thread
        return await loop.run_in_executor(thread, self.reader.read, length, body, query)


def _is_read_fast(body: bytes, size: int) -> bool:
    """Return whether little is read besides `size` bytes of JSON: its tensors are not base64."""
    return size <= READ_AT_ONCE and BASE64.encode() not in body[:size]
