"""`POST /classify`, as a bare ASGI app.

A call is, in order: policy from the query, images from the body (bounded while it is read),
slots or refusal, decoding, the engine, JSON. A client that hangs up anywhere on this way gives
its slots back. Nothing is validated that is our own: the answer is held to its record by a test.
`routes` describes it for OpenAPI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from serving.engine.policy import Policy
from serving.engine.request import Answer
from serving.errors import DeadlineError, ServingError
from serving.http.body import PIXELS, media_type_of, read_files, read_pixels
from serving.http.connection import Disconnect, arrived_of, disconnect_of
from serving.http.context import ServerContext
from serving.http.problems import INTERNAL_ERROR, error_response
from serving.http.query import ParsedQuery, QueryReader
from serving.http.schemas import AnswerFormatter


class Classify:
    """The endpoint."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self.query_reader = QueryReader(context.manifest)
        self._formatter = AnswerFormatter(context.manifest)
        self._model = {"name": context.manifest.name, "version": context.manifest.version}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call, with a problem if need be."""
        arrived = arrived_of(scope)
        try:
            content = await self._content(scope, receive, arrived)
        except ServingError as error:
            await error_response(self._context.metrics, error)(scope, receive, send)
        except ClientDisconnect:
            pass  # there is nobody to answer
        except Exception:
            await error_response(self._context.metrics, INTERNAL_ERROR)(scope, receive, send)
            raise  # for the log
        else:
            headers = headers_of(content)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})

    async def _content(self, scope: Scope, receive: Receive, arrived: float) -> bytes:
        context, headers = self._context, dict[bytes, bytes](scope["headers"])
        context.authenticate(headers.get(b"authorization", b"").decode("latin-1"))
        asked = self.query_reader.read(scope["query_string"])
        body = await context.body_reader.read(headers.get(b"content-length", b""), receive)
        try:
            images = await self._images(scope, headers.get(b"content-type", b""), body)
            with CancelOnDisconnect(receive, disconnect_of(scope)):
                return await self._answers(images, asked, arrived)
        finally:
            context.body_reader.release(len(body))

    def content(self, answers: Sequence[Answer], asked: ParsedQuery, decode: float) -> bytes:
        """The body of a response; `decode` in seconds."""
        body_reader = [self._formatter.of(each, asked.query, decode) for each in answers]
        return orjson.dumps(
            {"model": self._model, "budget": asked.policy.asked, "answers": body_reader}
        )

    async def _images(
        self, scope: Scope, content_type: bytes, body: bytes
    ) -> list[bytes] | NDArray[np.uint8]:
        kind = media_type_of(content_type)
        most = self._context.max_images
        if kind == PIXELS:
            return read_pixels(body, self._context.manifest.input, most)
        return await read_files(kind, body, scope["headers"], most)

    async def _answers(
        self, images: list[bytes] | NDArray[np.uint8], asked: ParsedQuery, arrived: float
    ) -> bytes:
        context = self._context
        with context.engine.admit(len(images), asked.policy) as slots:
            started = perf_counter()
            pixels = await self._decoded(images, asked.policy, started - arrived)
            decode = perf_counter() - started
            context.metrics.decode(decode)
            answers = await context.engine.classify(slots, pixels, asked.policy, arrived)
        return self.content(answers, asked, decode)

    async def _decoded(
        self, images: list[bytes] | NDArray[np.uint8], policy: Policy, age: float
    ) -> list[NDArray[np.uint8]]:
        if isinstance(images, np.ndarray):
            return list(images)
        decoder = self._context.decoder
        if (sizes := decoder.small(images)) and (small := decoder.decode_small(images, sizes)):
            return small
        try:
            async with asyncio.timeout(policy.seconds_left(age)):
                return await decoder.decode(images)
        except TimeoutError as error:
            self._context.metrics.count(policy.name, "expired", len(images))
            raise DeadlineError("deadline_ms passed while decoding; allow more time") from error


def headers_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Of an answer."""
    length = str(len(content)).encode()
    return [(b"content-length", length), (b"content-type", b"application/json")]


class CancelOnDisconnect:
    """While it is entered, a client that hangs up cancels the task.

    For when the body has been read: all that a server then has to say is that the client is
    gone, or that it has its answer. So whoever listens need not be cancelled, which costs more;
    and nobody has to where the server is ours, and gives the connection's line.

    Raises:
        ClientDisconnect: in the place of the cancellation.
    """

    def __init__(self, receive: Receive, line: Disconnect | None = None) -> None:
        self._receive = receive
        self._line = line
        self._gone = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._line is None:
            self._listen()
        elif self._line.lost:
            raise ClientDisconnect
        else:
            self._line.call = self._end

    def __exit__(self, *_: object) -> None:
        if self._line is None:
            self._listener.remove_done_callback(self._heard)
        else:
            self._line.call = None
        if self._gone:
            raise ClientDisconnect

    def _end(self) -> None:
        self._gone = True
        assert self._task is not None
        self._task.cancel()

    def _listen(self) -> None:
        self._listener = asyncio.ensure_future(self._receive())
        self._listener.add_done_callback(self._heard)

    def _heard(self, listener: asyncio.Future[Message]) -> None:
        if listener.cancelled():
            return
        if listener.result()["type"] == "http.disconnect":
            self._end()
        else:
            self._listen()
