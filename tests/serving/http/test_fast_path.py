"""Requests in one piece over a real connection, answered without a task as `Classify` answers."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import numpy as np
import pytest

from serving.http.connection import BODY_SECONDS
from serving.http.fast_path import MAX_BODY_BYTES
from tests.serving.http.raw import PIXELS, Connect, Response, Taken, answer_of, head
from tests.serving.servers import until
from tests.serving.small_bundle import png, random_images


def constant_part(answer: Response) -> Response:
    """Return a response without the parts that differ from call to call."""
    status, headers, body = answer
    for each in body.get("answers", []):
        del each["timings_ms"]
    return status, {n: v for n, v in headers.items() if n not in ("date", "content-length")}, body


def test_every_answer_equals_that_of_the_slow_path(
    connect: Connect, taken: Taken, jpeg: bytes
) -> None:
    pixels = random_images(3, 2).tobytes()
    kind = PIXELS
    requests = {
        "jpeg": head(len(jpeg), "?budget=full&top_k=3") + jpeg,
        "explained": head(len(jpeg), "?min_confidence=0.5&explain=true") + jpeg,
        "pixels": head(len(pixels), kind=kind) + pixels,
        "too many pixels": head(2 * len(pixels), kind=kind) + 2 * pixels,
        "no such budget": head(len(jpeg), "?budget=huge") + jpeg,
        "no such parameter": head(len(jpeg), "?colour=red") + jpeg,
        "no time": head(len(jpeg), "?deadline_ms=0.001") + jpeg,
        "the wrong key": head(len(jpeg)).replace(b"Bearer a", b"Bearer b") + jpeg,
        "too large": head(60_001) + bytes(60_001),
    }
    fast = {}
    for name, request in requests.items():
        with connect() as connection, connection.makefile("rb") as file:
            connection.sendall(request)
            fast[name] = constant_part(answer_of(file))
            until(lambda: taken == [True])
        taken.clear()
    with ExitStack() as opened:
        slow = {name: opened.enter_context(connect()) for name in requests}
        ends = {name: request.index(b"\r\n\r\n") + 4 for name, request in requests.items()}
        for name, connection in slow.items():
            connection.sendall(requests[name][: ends[name]])
        time.sleep(3 * BODY_SECONDS)
        for name, connection in slow.items():
            connection.sendall(requests[name][ends[name] :])
            with connection.makefile("rb") as file:
                assert constant_part(answer_of(file)) == fast[name], name
            assert not taken, name


@pytest.mark.parametrize("damage", ["png", "jpeg", "nothing"])
def test_a_body_that_it_cannot_decode_at_once_is_answered_by_the_slow_path(
    connect: Connect, taken: Taken, jpeg: bytes, damage: str
) -> None:
    body = {"png": png(random_images(1, 0)[0]), "jpeg": jpeg[:-30], "nothing": b"none"}[damage]
    with connect() as connection, connection.makefile("rb") as file:
        for _ in range(2):
            connection.sendall(head(len(body)) + body)
            assert answer_of(file)[0] == {"png": 200, "jpeg": 422, "nothing": 415}[damage]
    assert taken == [False, False]


@pytest.mark.parametrize(
    "request_head",
    [
        head(MAX_BODY_BYTES + 1),
        head(5, kind="application/json"),
        head(5, kind="multipart/form-data; boundary=x"),
        head(5, more="Expect: 100-continue\r\n"),
        head(5, version="1.0"),
        head(5, more="Origin: https://shop.example\r\n"),
        head(5, more="X-Twice: 1\r\nX-Twice: 2\r\n"),
        head(5).replace(b"/classify", b"/elsewhere"),
        head(5).replace(b"POST", b"PUT"),
        head(5).replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    ],
)
def test_other_requests_are_not_offered_to_it(
    connect: Connect, taken: Taken, request_head: bytes
) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(request_head)
        connection.sendall(b"5\r\nwrong\r\n0\r\n\r\n" if b"chunked" in request_head else b"wrong")
        line = file.readline()
        assert line.split()[1] in (b"100", b"400", b"404", b"405", b"413", b"415", b"422"), line
    assert not taken


@pytest.mark.parametrize("kind", ["image/jpeg", "application/json"])
def test_a_length_can_have_thousands_of_zeros(connect: Connect, taken: Taken, kind: str) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(head("0" * 5000 + "4", kind=kind) + b"none")
        assert answer_of(file)[0] == (415 if kind == "image/jpeg" else 400)
    assert taken == ([False] if kind == "image/jpeg" else [])


def test_a_body_can_arrive_after_its_head(connect: Connect, taken: Taken, jpeg: bytes) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(3):
            connection.sendall(head(len(jpeg)))
            time.sleep(BODY_SECONDS / 10)
            connection.sendall(jpeg[:9])
            connection.sendall(jpeg[9:])
            assert answer_of(file)[0] == 200
    assert taken.count(True) >= 1  # all, unless the machine is very slow


def test_responses_are_in_the_order_of_the_requests(
    connect: Connect, taken: Taken, jpeg: bytes
) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(b"".join(head(len(jpeg), f"?top_k={k}") + jpeg for k in (1, 2, 3)))
        assert [len(answer_of(file)[2]["answers"][0]["top_k"]) for _ in range(3)] == [1, 2, 3]
        connection.sendall(2 * (head(len(jpeg), "?colour=red") + jpeg) + head(len(jpeg)) + jpeg)
        assert [answer_of(file)[0] for _ in range(3)] == [422, 422, 200]
    assert taken == [True] * 6  # one after the other


def test_a_client_can_ask_to_close_the_connection(
    connect: Connect, taken: Taken, jpeg: bytes
) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(head(len(jpeg), more="Connection: close\r\n") + jpeg)
        status, headers, _ = answer_of(file)
        assert (status, headers["connection"]) == (200, "close")
        assert file.read() == b""
    assert taken == [True]


def test_the_order_of_pixels_does_not_change_their_answers(connect: Connect) -> None:
    pixels = random_images(3, 5)
    found = []
    for part in (pixels, pixels[::-1]):
        body = np.ascontiguousarray(part).tobytes()
        with connect() as connection, connection.makefile("rb") as file:
            connection.sendall(head(len(body), kind=PIXELS) + body)
            found.append([each["probability"] for each in answer_of(file)[2]["answers"]])
    assert found[0] == pytest.approx(found[1][::-1], abs=1e-5)
