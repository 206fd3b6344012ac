"""From the body of a call to the images in it: raw, multipart, JSON, or pixels.

A body is bounded while it is read: what is over the limit is never held, nor read. So is the
time that it may take to come, and what all calls hold together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from offramp.bundle.manifest import ImageInput
from serving.errors import (
    BodiesFullError,
    BodyTimeoutError,
    BodyTooLargeError,
    MalformedBodyError,
)
from serving.http.schemas import ClassifyImages

JSON = "application/json"
MULTIPART = "multipart/form-data"
PIXELS = "application/vnd.offramp.uint8"
MAX_FIELDS = 16  # of a form; there should be none, and the error can then name the first
DIGITS = 20  # of a length that count; what HTTP lets through has zeros before them
PIECE = 1 << 16  # bytes that the parser of forms takes at once


class BodyReader:
    """Reads bodies, and keeps account of the bytes that calls hold.

    Args:
        max_bytes: of one body.
        max_held: bytes of the bodies of all calls under way.
        seconds: from the head of a call to the end of its body.
    """

    def __init__(self, max_bytes: int, max_held: int, seconds: float) -> None:
        self._max_bytes = max_bytes
        self._max_held = max_held
        self._seconds = seconds
        self.held = 0

    async def read(self, length: bytes, receive: Receive) -> bytes:
        """A whole body, held until it is released.

        Args:
            length: what the head of the call says, or nothing.
            receive: as ASGI gives it.

        Raises:
            BodyTooLargeError: it has more than `max_bytes`; the rest is not read.
            BodiesFullError: all together have more than `max_held`.
            BodyTimeoutError: it did not come in time.
            ClientDisconnect: its client hung up.
        """
        chunks: list[bytes] = []
        try:
            self._bound(content_length_of(length))
            async with asyncio.timeout(self._seconds):
                await self._collect(receive, chunks)
        except BaseException as error:
            self.release(sum(map(len, chunks)))
            if isinstance(error, TimeoutError):
                raise BodyTimeoutError(
                    f"the body took more than {self._seconds:g} s to come; send smaller images"
                ) from error
            raise
        return b"".join(chunks)

    def take(self, size: int) -> None:
        """Hold a whole body of this size, until it is released.

        Raises:
            BodyTooLargeError: it has more than `max_bytes`.
            BodiesFullError: all together have more than `max_held`.
        """
        self._bound(size)
        self._hold(size)

    def release(self, size: int) -> None:
        """The call is over that held a body of this size."""
        self.held -= size

    async def _collect(self, receive: Receive, chunks: list[bytes]) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            size += len(chunk)
            self._bound(size)
            self._hold(len(chunk))
            chunks.append(chunk)
            more = message.get("more_body", False)

    def _hold(self, size: int) -> None:
        if self.held + size > self._max_held:
            raise BodiesFullError("too many bodies are being read; come again in a moment")
        self.held += size

    def _bound(self, size: int) -> None:
        if size > self._max_bytes:
            raise BodyTooLargeError(
                f"the body has more than {self._max_bytes} bytes; send smaller images"
            )


def content_length_of(content_length: bytes) -> int:
    """What a head says of its body's length; 0 if nothing."""
    return int(content_length[-DIGITS:]) if content_length.isdigit() else 0


def media_type_of(content_type: bytes) -> str:
    """A content type without parameters, in lower case."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


async def read_files(
    kind: str, body: bytes, headers: Iterable[tuple[bytes, bytes]], max_images: int
) -> list[bytes]:
    """The image files of a body: raw, multipart or JSON, as its kind says.

    Args:
        kind: its content type, without parameters.
        body: all of it.
        headers: of the call, as ASGI gives them.
        max_images: of one call.

    Raises:
        MalformedBodyError: it is not what its kind says, or has too many images.
    """
    if kind == MULTIPART:
        files = await _from_form(_Form(Headers(raw=list(headers)), body, max_images))
    elif kind == JSON:
        files = _from_json(body)
    else:
        return [body]
    if not 0 < len(files) <= max_images:
        raise MalformedBodyError(f"the body has {len(files)} images; send 1 to {max_images}")
    return files


def read_pixels(body: bytes, target: ImageInput, max_images: int) -> NDArray[np.uint8]:
    """The images of a body of pixels: uint8 [n, target.height, target.width, 3], RGB.

    Raises:
        MalformedBodyError: its length is not that of 1 to `max_images` of them.
    """
    height, width = target.height, target.width
    count, rest = divmod(len(body), height * width * 3)
    if rest or not 0 < count <= max_images:
        raise MalformedBodyError(
            f"the body has {len(body)} bytes; an image is {height} x {width} x 3 = "
            f"{height * width * 3} (height, width, RGB; uint8), send 1 to {max_images} of them, "
            "one after the other"
        )
    return np.frombuffer(body, np.uint8).reshape(count, height, width, 3)


def _from_json(body: bytes) -> list[bytes]:
    try:
        return list(ClassifyImages.model_validate_json(body).images)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise MalformedBodyError(
            f'{where}: {first["msg"]}; send {{"images": ["<base64>", ...]}}'
        ) from error


class _Form(MultiPartParser):
    """Refuses a form that breaks off; keeps files, bounded already, in memory."""

    spool_max_size = 0

    def __init__(self, headers: Headers, body: bytes, max_images: int) -> None:
        super().__init__(headers, self._whole(body), max_files=max_images, max_fields=MAX_FIELDS)
        self._ended = False

    async def _whole(self, body: bytes) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(body), PIECE):
            yield body[at : at + PIECE]
        if not self._ended:
            raise MultiPartException("It breaks off before its last boundary.")

    def on_end(self) -> None:
        self._ended = True


async def _from_form(parser: _Form) -> list[bytes]:
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedBodyError(f"multipart form: {error.message}") from error
    try:
        parts = form.multi_items()
        options = [name for name, part in parts if not isinstance(part, UploadFile)]
        if options:
            raise MalformedBodyError(
                f"multipart form: {options[0][:64]!r} is no file; use the query"
            )
        return [await part.read() for _, part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()
