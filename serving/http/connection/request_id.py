"""The header `x-request-id`: taken from the client, echoed, and named in the log of an error.

An id is made only for an error of the server, because nothing else of one request is logged.
"""

from __future__ import annotations

import re
from secrets import token_hex

from starlette.types import Message, Scope, Send

from serving.http.connection.interface import Headers

NAME = b"x-request-id"
INTERNAL = 500
MADE_BYTES = 8  # random ones of an id
_VALID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def valid_request_id(value: bytes) -> bytes:
    """Return an id as a client sent it. Empty if it has other characters, or is too long."""
    return value if _VALID.fullmatch(value) else b""


def request_id_of(scope: Scope) -> bytes:
    """Return the id that a client sent, once and valid. Empty otherwise."""
    found = [value for name, value in scope["headers"] if name == NAME]
    return valid_request_id(found[0]) if len(found) == 1 else b""


def id_header(request_id: bytes) -> Headers:
    """Return the header that echoes an id. Without an id there is no header."""
    return [(NAME, request_id)] if request_id else []


def made_request_id() -> bytes:
    """Return a new id."""
    return token_hex(MADE_BYTES).encode()


def name_in_log(error: BaseException, request_id: bytes) -> None:
    """Write an id into the traceback of an error."""
    error.add_note(f"{NAME.decode()}: {request_id.decode()}")


class IdentifiedSend:
    """A `send` of ASGI that adds the id of a request to its response.

    Args:
        send: As ASGI gives it.
        request_id: The id that the client sent, or empty. Then a response with status 500 gets a
            new one.

    Attributes:
        request_id: The id of the response, or empty.
        status: Status of the response. 0: it has not started.
    """

    def __init__(self, send: Send, request_id: bytes) -> None:
        self.request_id = request_id
        self.status = 0
        self._send = send

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status == INTERNAL:
                self.request_id = self.request_id or made_request_id()
            if self.request_id:
                headers = [*message["headers"], (NAME, self.request_id)]
                message = {**message, "headers": headers}
        await self._send(message)
