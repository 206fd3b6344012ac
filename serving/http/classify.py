"""`POST /classify` as a plain ASGI app, for every kind of request.

A call passes these steps: policy from the query, images from the body (bounded while it is read),
slots or a refusal, decoding, the engine, JSON. A client that disconnects in any step gives its
slots back. A client that asks for events gets the answer of each exit first (`anytime`). The answer
is not validated at run time. A test compares it with its record. `openapi` describes the endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serving.engine.policy import Policy
from serving.engine.request import Answer
from serving.errors import ServingError
from serving.http.anytime.events import ExitFormatter, wants_events
from serving.http.anytime.stream import EventStream
from serving.http.bodies.body import JSON, MULTIPART, PIXELS, media_type_of, read_files, read_pixels
from serving.http.connection import (
    CancelOnDisconnect,
    Headers,
    arrived_of,
    check_encoding,
    disconnect_of,
)
from serving.http.context import ServerContext
from serving.http.formatter import AnswerFormatter
from serving.http.openapi import CLASSIFY_PIXELS
from serving.http.problems import INTERNAL_ERROR, SAFETY_HEADERS, error_response
from serving.http.query import ParsedQuery, QueryReader
from serving.http.tracing.endpoint import trace_of
from serving.http.tracing.trace import Trace
from serving.images.jpeg import Plain
from serving.images.plan import Plan

JSON_TYPE = JSON.encode()
# Bytes of a form or JSON that are read in about a millisecond. Larger ones are read one by one on a
# thread, so that the event loop answers other requests between the steps.
READ_AT_ONCE = 1 << 18


class Classify:
    """The endpoint for every kind of request.

    Attributes:
        query_reader: Reader of its query.
        thread: Thread that reads large forms and large JSON.
    """

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self.query_reader = QueryReader(context.manifest, context.milliseconds)
        self._formatter = AnswerFormatter(context.manifest)
        self._exit_formatter = ExitFormatter(context.manifest)
        self._model = {"name": context.manifest.name, "version": context.manifest.version}
        self.thread = ThreadPoolExecutor(1, "bodies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call with JSON or with a problem."""
        arrived = arrived_of(scope)
        stream = EventStream(send, self._exit_formatter) if wants_events(scope) else None
        try:
            content = await self._content(scope, receive, arrived, stream)
        except ServingError as error:
            await self._fail(error, stream, scope, receive, send)
        except ClientDisconnect:
            pass  # no client is left to answer
        except Exception:
            await self._fail(INTERNAL_ERROR, stream, scope, receive, send)
            raise  # for the log
        else:
            if stream is not None:
                await stream.end("answer", content)
                return
            await send_response(send, 200, headers_of(content), content)

    async def _fail(
        self,
        error: ServingError,
        stream: EventStream | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        response = error_response(self._context.metrics, error)
        if stream is None:
            await response(scope, receive, send)
        else:
            await stream.fail(response, scope, receive)

    async def _content(
        self, scope: Scope, receive: Receive, arrived: float, stream: EventStream | None
    ) -> bytes:
        context, headers = self._context, dict[bytes, bytes](scope["headers"])
        context.authenticate_all(scope["headers"])
        parsed = self.query_reader.read(scope["query_string"])
        if stream is not None:
            parsed = self.query_reader.at_every_exit(parsed, explain=True)
        check_encoding(scope["headers"])
        body = await context.body_reader.read(headers.get(b"content-length", b""), receive)
        size = len(body)
        try:
            by_path = scope["path"].endswith(CLASSIFY_PIXELS.path)
            content_type = PIXELS.encode() if by_path else headers.get(b"content-type", b"")
            images = await self._images(content_type, body)
            del body  # the images are copies, or the body itself
            with CancelOnDisconnect(receive, disconnect_of(scope)):
                trace = trace_of(scope)
                answers, decode = await self.answers(images, parsed, arrived, stream, trace)
                return self.content(answers, parsed, decode)
        finally:
            context.body_reader.release(size)

    def content(self, answers: Sequence[Answer], parsed: ParsedQuery, decode: float) -> bytes:
        """Return the body of a response. `decode` is the decoding time in seconds."""
        bodies = [self._formatter.format(each, parsed.query, decode) for each in answers]
        budget = parsed.policy.asked
        return orjson.dumps({"model": self._model, "budget": budget, "answers": bodies})

    async def _images(self, content_type: bytes, body: bytes) -> list[bytes] | NDArray[np.uint8]:
        max_images = self._context.max_images
        media_type = media_type_of(content_type)
        if media_type == PIXELS:
            return read_pixels(body, self._context.manifest.input, max_images)
        if media_type not in (JSON, MULTIPART) or len(body) <= READ_AT_ONCE:
            return read_files(content_type, body, max_images)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.thread, read_files, content_type, body, max_images)

    async def answers(
        self,
        images: list[bytes] | NDArray[np.uint8],
        parsed: ParsedQuery,
        arrived: float,
        stream: EventStream | None = None,
        trace: Trace | None = None,
    ) -> tuple[list[Answer], float]:
        """Return the answers to the images of a call, and the time to decode them in seconds.

        Args:
            images: Image files, or pixels [n, height, width, 3].
            parsed: Query of the call.
            arrived: Time of its arrival, by `time.perf_counter`.
            stream: Gets the answer of each exit first.
            trace: Trace of the call. Gets the answers too.

        Raises:
            ServingError: The call is refused, or it fails.
        """
        context = self._context
        small, plans = self._checked(images)
        with context.engine.admit(len(images), parsed.policy) as slots:
            started = perf_counter()
            age = started - arrived
            pixels = await self._decoded(images, small, plans, parsed.policy, age)
            decode = perf_counter() - started
            context.metrics.decode(decode)
            runs = () if trace is None else trace.submit(len(pixels), started, decode)
            engine, policy = context.engine, parsed.policy
            if stream is None:
                answers = await engine.classify(slots, pixels, policy, arrived, runs)
            else:
                answers = await stream.classify(engine, slots, pixels, parsed, arrived, runs)
        if trace is not None:
            trace.answers = answers
        return answers, decode

    def _checked(
        self, images: list[bytes] | NDArray[np.uint8]
    ) -> tuple[Sequence[Plain], Sequence[Plan]]:
        """Check the headers of images before they take slots. Small images need no plan."""
        if isinstance(images, np.ndarray):
            return (), ()
        decoder = self._context.decoder
        small = decoder.small(images)
        return (small, ()) if small else ((), decoder.plan(images))

    async def _decoded(
        self,
        images: list[bytes] | NDArray[np.uint8],
        small: Sequence[Plain],
        plans: Sequence[Plan],
        policy: Policy,
        age: float,
    ) -> list[NDArray[np.uint8]]:
        if isinstance(images, np.ndarray):
            return list(images)
        context = self._context
        decoder = context.decoder
        if small and (pixels := decoder.decode_small(images, small)) is not None:
            return pixels
        plans = plans or decoder.plan(images)  # a small one is damaged
        try:
            async with asyncio.timeout(policy.seconds_left(age)):
                return await decoder.decode(plans)
        except TimeoutError as error:
            context.metrics.count(policy.name, "expired", len(images))
            raise context.engine.missed(policy, "deadline_ms passed while decoding") from error


def headers_of(body: bytes, content_type: bytes = JSON_TYPE) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response with this body."""
    length = str(len(body)).encode()
    return [(b"content-length", length), (b"content-type", content_type), *SAFETY_HEADERS]


async def send_response(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
