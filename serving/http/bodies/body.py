"""Read the images of a call from its body: raw, multipart, JSON, or pixels.

Limits apply while a body is read: its bytes, the bytes of the bodies of all calls, and the time
until it is complete. Bytes over a limit are neither kept nor read.
"""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from offramp.bundle.manifest import ImageInput
from serving.errors import (
    BodiesFullError,
    BodyTimeoutError,
    BodyTooLargeError,
    MalformedBodyError,
)
from serving.http.bodies.json_images import read_json
from serving.http.bodies.multipart import read_form

JSON = "application/json"
MULTIPART = "multipart/form-data"
PIXELS = "application/vnd.offramp.uint8"
FILE_BYTES = "application/octet-stream"  # one of many types that a raw image can have
LENGTH_DIGITS = 20  # at the end of a content length; the HTTP parser allows only zeros before


class BodyReader:
    """Reads bodies and counts the bytes that all calls under way hold.

    Args:
        max_bytes: Largest size of one body.
        max_held: Largest total size of the bodies of all calls under way, in bytes.
        seconds: Longest time from the head of a call to the end of its body.
        remedy: What to do about a body that is too large or too slow, for the error.

    Attributes:
        max_bytes: As above.
        seconds: As above.
        held: Total size of the bodies of all calls under way, in bytes.
    """

    def __init__(
        self, max_bytes: int, max_held: int, seconds: float, remedy: str = "send smaller images"
    ) -> None:
        self.max_bytes = max_bytes
        self._max_held = max_held
        self.seconds = seconds
        self._remedy = remedy
        self.held = 0

    async def read(self, length: bytes, receive: Receive) -> bytes:
        """Read a whole body. Its bytes count as held until they are released.

        Args:
            length: Header `Content-Length` of the call, or empty.
            receive: As ASGI gives it.

        Raises:
            BodyTooLargeError: The body has more than `max_bytes`. The rest is not read.
            BodiesFullError: All bodies together have more than `max_held` bytes.
            BodyTimeoutError: The body was not complete in time.
            ClientDisconnect: The client disconnected.
        """
        chunks: list[bytes] = []
        try:
            self._check_size(content_length_of(length))
            async with asyncio.timeout(self.seconds):
                await self._collect(receive, chunks)
        except BaseException as error:
            self.release(sum(map(len, chunks)))
            if isinstance(error, TimeoutError):
                raise BodyTimeoutError(
                    f"the body took more than {self.seconds:g} s to arrive; {self._remedy}"
                ) from error
            raise
        return b"".join(chunks)

    def hold(self, size: int) -> None:
        """Count a whole body of this size as held until it is released.

        Raises:
            BodyTooLargeError: The body has more than `max_bytes`.
            BodiesFullError: All bodies together have more than `max_held` bytes.
        """
        self._check_size(size)
        self._count(size)

    def release(self, size: int) -> None:
        """Release the bytes of a body at the end of its call."""
        self.held -= size

    def keep(self, size: int) -> None:
        """Count bytes that outlive their call, or with a negative number no longer do."""
        self.held += size

    async def _collect(self, receive: Receive, chunks: list[bytes]) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            size += len(chunk)
            self._check_size(size)
            self._count(len(chunk))
            chunks.append(chunk)
            more = message.get("more_body", False)

    def _count(self, size: int) -> None:
        if self.held + size > self._max_held:
            raise BodiesFullError("too many bodies are being read; try again in a moment")
        self.held += size

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise BodyTooLargeError(
                f"the body has more than {self.max_bytes} bytes; {self._remedy}"
            )


def content_length_of(content_length: bytes) -> int:
    """Return the value of a header `Content-Length`, or 0 without one."""
    return int(content_length[-LENGTH_DIGITS:]) if content_length.isdigit() else 0


def media_type_of(content_type: bytes) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def read_files(content_type: bytes, body: bytes, max_images: int) -> list[bytes]:
    """Return the image files of a raw, multipart or JSON body.

    Args:
        content_type: Header of this name, or empty.
        body: The whole body.
        max_images: Largest number of images in one call.

    Raises:
        MalformedBodyError: The body is not of its content type, or has too many images.
    """
    media_type = media_type_of(content_type)
    if media_type == MULTIPART:
        files = read_form(content_type, body, max_images)
    elif media_type == JSON:
        files = read_json(body, max_images)
    else:
        return [body]
    if not files:
        raise MalformedBodyError(f"the body has 0 images; send 1 to {max_images}")
    return files


def read_pixels(body: bytes | memoryview, target: ImageInput, max_images: int) -> NDArray[np.uint8]:
    """Return the images of a body of pixels: uint8 [n, target.height, target.width, 3], RGB.

    Raises:
        MalformedBodyError: The length is not that of 1 to `max_images` images.
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
