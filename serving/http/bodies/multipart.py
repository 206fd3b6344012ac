"""Read the files of a multipart form (RFC 7578) that is completely in memory.

Parts, headers of a part and their bytes are bounded, and the first error ends the reading. Text is
UTF-8. The parameter `charset` of a content type has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.errors import MalformedBodyError

MAX_BOUNDARY = 256  # bytes; RFC 2046 allows 70
MAX_PART_HEAD = 8192  # bytes of the headers of one part
MAX_PART_HEADERS = 16
FILE_TYPES = (b"image/", b"application/octet-stream")  # of a part that is a file without a name
FILE_FIELD = b"images"
PLAIN = (b"7bit", b"8bit", b"binary")  # transfer encodings that change no byte
LINE = b"\r\n"
_PARAMETER = re.compile(
    rb""";\s*+ ([^\s=;"]++) \s*+=\s*+ (?: "((?:[^"\\]|\\.)*+)" | ([^;]*+) )""",
    re.VERBOSE | re.DOTALL,
)
_AFTER_BOUNDARY = re.compile(rb"--|[ \t]*+\r\n")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def read_form(content_type: bytes, body: bytes, max_images: int) -> list[bytes]:
    """Return the files of a form, in order.

    A part is a file if it has a parameter `filename` or `filename*`, the content type of an image
    or of bytes, or the name `images`, which the API documents for files.

    Args:
        content_type: Header of this name, with the boundary.
        body: The whole form.
        max_images: Largest number of files.

    Raises:
        MalformedBodyError: The form is damaged, has a part that is no file, or exceeds a bound.
    """
    files: list[bytes] = []
    for head, data in _parts(body, _boundary(content_type)):
        _check_file(head)
        if len(files) == max_images:
            raise _malformed(f"more than {max_images} images; send 1 to {max_images}")
        files.append(data)
    return files


def _malformed(reason: str) -> MalformedBodyError:
    return MalformedBodyError(f"multipart form: {reason}")


def _boundary(content_type: bytes) -> bytes:
    boundary = _parameters(content_type).get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise _malformed(f"the content type has no boundary of 1 to {MAX_BOUNDARY} bytes")
    return boundary


def _parameters(value: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a header's value. Names are in lower case, values not quoted."""
    return {
        name.lower(): _ESCAPED.sub(rb"\1", quoted) or plain.strip()
        for name, quoted, plain in _PARAMETER.findall(value)
    }


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield headers and data of each part."""
    delimiter = LINE + b"--" + boundary
    start = 0 if body.startswith(delimiter[2:]) else body.find(delimiter) + 2
    if start == 1:
        raise _malformed("its boundary is not in it")
    at = start + len(delimiter) - 2
    while (begin := _after_boundary(body, at)) is not None:
        end = _end_of_head(body, begin)
        at = body.find(delimiter, end + 4)
        if at < 0:
            raise _truncated()
        yield body[begin:end], body[end + 4 : at]
        at += len(delimiter)


def _after_boundary(body: bytes, at: int) -> int | None:
    """Return where the part after a boundary begins. `None` after the last boundary."""
    found = _AFTER_BOUNDARY.match(body, at)
    if found is None:
        if len(body) - at < len(LINE):
            raise _truncated()
        raise _malformed("a line begins with its boundary and has more bytes")
    return None if found[0] == b"--" else found.end()


def _end_of_head(body: bytes, begin: int) -> int:
    if body.startswith(LINE, begin):
        raise _malformed("a part has no headers; send its Content-Disposition")
    end = body.find(2 * LINE, begin, begin + MAX_PART_HEAD + 2 * len(LINE))
    if end >= 0:
        return end
    if len(body) <= begin + MAX_PART_HEAD:
        raise _truncated()
    raise _malformed(f"a part has more than {MAX_PART_HEAD} bytes of headers")


def _truncated() -> MalformedBodyError:
    return _malformed("it ends before its last boundary")


def _check_file(head: bytes) -> None:
    lines = head.split(LINE)
    if len(lines) > MAX_PART_HEADERS:
        raise _malformed(f"a part has more than {MAX_PART_HEADERS} headers")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise _malformed("a part has a header without a colon")
        headers[name.strip().lower()] = value.strip()
    encoding = headers.get(b"content-transfer-encoding", b"binary").lower()
    if encoding not in PLAIN:
        shown = encoding.decode(errors="replace")[:64]
        raise _malformed(
            f"Content-Transfer-Encoding {shown!r} is not read; send the bytes of files"
        )
    parameters = _parameters(headers.get(b"content-disposition", b""))
    named = any(each.partition(b"*")[0] == b"filename" for each in parameters)
    if named or headers.get(b"content-type", b"").lower().startswith(FILE_TYPES):
        return
    if b"name" not in parameters:
        raise _malformed("a part has no Content-Disposition with a name")
    if parameters[b"name"] != FILE_FIELD:
        field = parameters[b"name"].decode(errors="replace")[:64]
        raise _malformed(f"{field!r} is not a file; use the query")
