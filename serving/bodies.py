"""From the body of a call to the image files in it: raw, multipart or JSON.

The body is bounded while it is read: what is over the limit is never held, nor read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from pydantic import ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.errors import BodyTooLargeError, MalformedBodyError
from serving.schemas import ClassifyImages

JSON = "application/json"
MULTIPART = "multipart/form-data"
MAX_FIELDS = 16  # of a form; there should be none, and the error can then name the first


async def read_images(request: Request, max_bytes: int, max_images: int) -> list[bytes]:
    """The image files of a body: raw, multipart or JSON, as its content type says.

    Raises:
        BodyTooLargeError: there are more than `max_bytes`; the rest is not read.
        MalformedBodyError: it is not what its content type says, or has too many images.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    stream = _bounded(request, max_bytes)
    if kind == MULTIPART:
        files = await _from_form(_Form(request.headers, stream, max_images))
    else:
        body = b"".join([chunk async for chunk in stream])
        files = _from_json(body) if kind == JSON else [body]
    if not 0 < len(files) <= max_images:
        raise MalformedBodyError(f"the body has {len(files)} images; send 1 to {max_images}")
    return files


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    announced = request.headers.get("content-length", "0")
    size = int(announced) if announced.isdecimal() else 0
    if size <= max_bytes:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                break
            yield chunk
    if size > max_bytes:
        raise BodyTooLargeError(f"the body has more than {max_bytes} bytes; send smaller images")


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

    def __init__(
        self, headers: Headers, stream: AsyncGenerator[bytes, None], max_images: int
    ) -> None:
        super().__init__(headers, self._whole(stream), max_files=max_images, max_fields=MAX_FIELDS)
        self._ended = False

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
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
