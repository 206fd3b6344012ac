"""Raw requests and responses of `POST /classify` on a socket."""

from __future__ import annotations

import json
import socket
import time
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


def statuses_of(client: socket.socket) -> list[int]:
    """Read responses until the server closes, and return their statuses."""
    statuses = []
    with client.makefile("rb") as file:
        while line := file.readline():
            version, status, _ = line.decode().split(" ", 2)
            assert version == "HTTP/1.1", line
            statuses.append(int(status))
            length = 0
            while field := file.readline().strip().lower():
                name, _, value = field.partition(b": ")
                length = int(value) if name == b"content-length" else length
            assert len(file.read(length)) == length
    return statuses


def exchange(port: int, *pieces: bytes, pause: float = 0.0) -> list[int]:
    """Send pieces on a new connection, end it, and return the statuses of all responses."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause)
        client.shutdown(socket.SHUT_WR)
        return statuses_of(client)
