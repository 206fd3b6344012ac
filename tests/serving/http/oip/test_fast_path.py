"""Small requests are answered without a task, as the endpoint for every request answers them."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.serving.http.oip.calls import INFER, LENGTH, elements
from tests.serving.http.oip.calls import head as document_of
from tests.serving.http.raw import KEY, Connect, Taken
from tests.serving.servers import until
from tests.serving.small_bundle import png, random_images


def request_of(data: bytes, **fields: Any) -> bytes:
    """Return a whole request with a binary tensor."""
    text = json.dumps(document_of([1], data=data, **fields)).encode()
    return (
        (
            f"POST {INFER} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"{LENGTH}: {len(text)}\r\nContent-Length: {len(text) + len(data)}\r\n\r\n"
        ).encode()
        + text
        + data
    )


def response_of(connection: socket.socket) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Return status line, headers and body of the next response."""
    with connection.makefile("rb") as file:
        status, headers = file.readline(), {}
        while line := file.readline().strip():
            name, _, value = line.partition(b": ")
            headers[name] = value
        body = file.read(int(headers[b"content-length"]))
    headers.pop(b"date", None)
    return status, headers, body


JPEG = elements([png(random_images(1, 0)[0], "JPEG")])


@pytest.mark.parametrize(
    "request_bytes",
    [
        request_of(JPEG, id="a"),
        request_of(JPEG, parameters={"binary_data_output": True, "budget": "full"}),
        request_of(JPEG, parameters={"budget": "cheap"}),
        request_of(b"\xff\xff\xff\xff"),
        request_of(JPEG).replace(b"Bearer a", b"Bearer b"),
    ],
)
def test_both_paths_give_the_same_response(
    connect: Connect, taken: Taken, request_bytes: bytes
) -> None:
    with connect() as connection:
        connection.sendall(request_bytes)
        fast = response_of(connection)
        until(lambda: taken == [True])
    taken.clear()
    twice = b"Host: x\r\nX-Twice: 1\r\nX-Twice: 2\r\n"  # is not offered to the fast path
    with connect() as connection:
        connection.sendall(request_bytes.replace(b"Host: x\r\n", twice))
        assert response_of(connection) == fast
    assert not taken


def test_an_image_that_is_not_small_is_left_to_the_other_path(
    connect: Connect, taken: Taken
) -> None:
    data = elements([png(random_images(1, 0)[0])])  # no JPEG
    with connect() as connection:
        connection.sendall(request_of(data))
        assert response_of(connection)[0].split()[1] == b"200"
    assert taken == [False]
