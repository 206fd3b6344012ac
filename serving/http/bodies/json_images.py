"""Read the images of a JSON body, `{"images": ["<base64>", ...]}`.

Base64 has no brackets, commas and colons, so such a body has few. They are counted before the body
is parsed. Parsing then makes few objects, and its time and memory are those of a copy.
"""

from __future__ import annotations

import binascii

from serving.errors import MalformedBodyError
from serving.http.bodies.json_document import parse_json

SEND = 'send {"images": ["<base64>", ...]}'
MARKS = {b"[": "lists", b"{": "objects", b",": "commas", b":": "colons"}
SPARE_MARKS = 64  # besides 4 for each image, for a precise error about a slightly wrong body
URI_HEAD_BYTES = 256  # of a data URI, up to its comma
LINE_ENDS = b"\r\n"
STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")  # from the alphabet for URLs


def read_json(body: bytes, max_images: int) -> list[bytes]:
    """Return the decoded images of a JSON body.

    Base64 can have line ends, either alphabet, no padding, and the head of a `data:` URI.

    Raises:
        MalformedBodyError: The body is not of this form, or has too many images. It names the
            first error only.
    """
    limit = 4 * max_images + SPARE_MARKS
    for mark, name in MARKS.items():
        if has_more(body, mark, limit):
            raise MalformedBodyError(
                f"the JSON has more than {limit} {name}; {SEND} with 1 to {max_images} images"
            )
    texts = _texts(_document_in(body))
    if len(texts) > max_images:
        raise MalformedBodyError(f"the body has {len(texts)} images; send 1 to {max_images}")
    return [_decoded(text, number) for number, text in enumerate(texts)]


def has_more(body: bytes, mark: bytes, limit: int) -> bool:
    """Return whether a body has a byte more than `limit` times. Stops at the first one too many."""
    at = -1
    for _ in range(limit + 1):
        at = body.find(mark, at + 1)
        if at < 0:
            return False
    return True


def _document_in(body: bytes) -> object:
    try:
        return parse_json(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError(f"invalid JSON: {error}; {SEND}") from None


def _texts(document: object) -> list[object]:
    if not isinstance(document, dict):
        raise MalformedBodyError(f"body: not an object; {SEND}")
    for name in document:
        if name != "images":
            raise MalformedBodyError(f"{name[:64]!r}: there is no such field; {SEND}")
    texts = document.get("images")
    if not isinstance(texts, list):
        raise MalformedBodyError(f"images: {'not a list' if document else 'missing'}; {SEND}")
    return texts


def _decoded(text: object, number: int) -> bytes:
    try:
        return from_base64(text)
    except ValueError as error:
        reason = str(error)
    raise MalformedBodyError(f"images.{number}: {reason}; {SEND}")


def from_base64(text: object) -> bytes:
    """Return the bytes of an image in base64, in the forms that `read_json` reads.

    Raises:
        ValueError: It is not a string of base64. The text says why.
    """
    if not isinstance(text, str):
        raise ValueError("not a string")
    if not text.isascii():
        raise ValueError("characters that are not base64")
    data = _without_uri_head(text.encode().translate(STANDARD_ALPHABET, LINE_ENDS))
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"invalid base64: {error}") from None


def _without_uri_head(data: bytes) -> bytes:
    if data[:5].lower() != b"data:":
        return data
    comma = data.find(b",", 0, URI_HEAD_BYTES)
    if comma < 0 or not data[:comma].rstrip().lower().endswith(b";base64"):
        raise ValueError("a data URI without ';base64,' at the end of its head")
    return data[comma + 1 :]
