"""Read the body of a call without images: a small JSON object with one field."""

from __future__ import annotations

from starlette.types import Receive, Scope

from serving.errors import MalformedBodyError
from serving.http.bodies.body import BodyReader
from serving.http.bodies.json_document import parse_json
from serving.http.connection import check_encoding

MAX_BYTES = 1 << 12
REMEDY = "send its parameters alone, at once"  # of a body that is too large or too slow


class CallReader:
    """Reads such bodies.

    Args:
        seconds: Longest time from the head of a call to the end of its body.
    """

    def __init__(self, seconds: float) -> None:
        self._bodies = BodyReader(MAX_BYTES, 16 * MAX_BYTES, seconds, REMEDY)

    async def read(self, scope: Scope, receive: Receive, field: str) -> dict[str, object]:
        """Return the object, with this field or none. An empty body is one without it.

        Raises:
            MalformedBodyError: The body is no JSON object, or has another field.
            ServingError: It is encoded, too large or too slow, or there are too many bodies.
            ClientDisconnect: The client disconnected.
        """
        check_encoding(scope["headers"])
        headers = dict[bytes, bytes](scope["headers"])
        body = await self._bodies.read(headers.get(b"content-length", b""), receive)
        self._bodies.release(len(body))
        return _object_in(body, field)


def _object_in(body: bytes, field: str) -> dict[str, object]:
    try:
        document = parse_json(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError(f"the body is no JSON object with {field}: {error}") from None
    if not isinstance(document, dict):
        raise MalformedBodyError(f"the body is no JSON object with {field}")
    if others := document.keys() - {field}:
        raise MalformedBodyError(f"the body has {min(others)!r}, and {field!r} alone is known")
    return document
