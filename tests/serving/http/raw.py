"""Raw requests and responses of `POST /classify` on a socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from io import BufferedReader
from typing import Any

KEY = "a key of a test"
PIXELS = "application/vnd.offramp.uint8"
Connect = Callable[[], socket.socket]
Taken = list[bool | None]  # for each request offered to the fast path, whether it took it
Response = tuple[int, dict[str, str], dict[str, Any]]  # status, headers, body


def head(
    length: int | str,
    query: str = "",
    kind: str = "image/jpeg",
    more: str = "",
    version: str = "1.1",
) -> bytes:
    return (
        f"POST /classify{query} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


def answer_of(file: BufferedReader) -> Response:
    """Read status, headers and body of the next response."""
    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name] = value
    return status, headers, json.loads(file.read(int(headers["content-length"])))
