"""Requests in one piece, over a real connection: as `Classify` answers them, without a task."""

import gc
import json
import socket
import time
from typing import Never

import numpy as np
import pytest

from serving.http import connection as protocol
from serving.http.connection import BODY_SECONDS
from serving.http.fast_path import LARGEST
from tests.serving.servers import serving

KEY = "a key of a test"


@pytest.fixture(scope="module")
def server(bundle):
    with serving(bundle, slots=8, max_body_bytes=60_000, max_images=3, api_key=KEY) as running:
        yield running


@pytest.fixture
def connect(server):
    return lambda: socket.create_connection(("127.0.0.1", server.port), timeout=20)


@pytest.fixture
def taken(server, monkeypatch):
    """Whether the fast path took each request that came to it, in their order."""
    said, path = [], server.app.fast_path
    start = path.start

    def watched(head, body, reply):
        said.append(None)  # before there can be an answer
        future = start(head, body, reply)
        said[-1] = future is not None
        return future

    monkeypatch.setattr(path, "start", watched)
    return said


@pytest.fixture(scope="module")
def jpeg(images, encode):
    return encode(images(1, 0)[0], "JPEG")


def head(length, query="", kind="image/jpeg", more="", version="1.1"):
    return (
        f"POST /classify{query} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


def answer_of(file):
    """Status, headers and body of the next answer."""
    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name] = value
    return status, headers, json.loads(file.read(int(headers["content-length"])))


def told(answer):
    """An answer without what differs from call to call."""
    status, headers, body = answer
    for each in body.get("answers", []):
        del each["timings_ms"]
    return status, {n: v for n, v in headers.items() if n not in ("date", "content-length")}, body


def test_every_answer_is_that_of_the_slow_path(connect, taken, images, jpeg, wait_until) -> None:
    pixels = images(3, 2).tobytes()
    kind = "application/vnd.offramp.uint8"
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
    for name, request in requests.items():
        end = request.index(b"\r\n\r\n") + 4
        with connect() as connection, connection.makefile("rb") as file:
            connection.sendall(request)
            fast = told(answer_of(file))
            wait_until(lambda: taken == [True])
        taken.clear()
        with connect() as connection, connection.makefile("rb") as file:
            connection.sendall(request[:end])
            time.sleep(3 * BODY_SECONDS)
            connection.sendall(request[end:])
            assert told(answer_of(file)) == fast, name
        assert not taken, name


@pytest.mark.parametrize("damage", ["png", "jpeg", "nothing"])
def test_what_it_cannot_do_at_once_is_answered_all_the_same(
    connect, taken, images, encode, jpeg, damage
) -> None:
    body = {"png": encode(images(1, 0)[0]), "jpeg": jpeg[:-30], "nothing": b"none"}[damage]
    with connect() as connection, connection.makefile("rb") as file:
        for _ in range(2):
            connection.sendall(head(len(body)) + body)
            assert answer_of(file)[0] == {"png": 200, "jpeg": 422, "nothing": 415}[damage]
    assert taken == [False, False]


@pytest.mark.parametrize(
    "request_head",
    [
        head(LARGEST + 1),
        head(5, kind="application/json"),
        head(5, kind="multipart/form-data; boundary=x"),
        head(5, more="Expect: 100-continue\r\n"),
        head(5, version="1.0"),
        head(5).replace(b"/classify", b"/elsewhere"),
        head(5).replace(b"POST", b"PUT"),
        head(5).replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    ],
)
def test_other_requests_never_come_to_it(connect, taken, request_head) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(request_head)
        connection.sendall(b"5\r\nwrong\r\n0\r\n\r\n" if b"chunked" in request_head else b"wrong")
        line = file.readline()
        assert line.split()[1] in (b"100", b"400", b"404", b"405", b"413", b"415", b"422"), line
    assert not taken


@pytest.mark.parametrize("kind", ["image/jpeg", "application/json"])
def test_a_length_may_have_thousands_of_zeros(connect, taken, kind) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(head("0" * 5000 + "4", kind=kind) + b"none")
        assert answer_of(file)[0] == (415 if kind == "image/jpeg" else 400)
    assert taken == ([False] if kind == "image/jpeg" else [])


def test_a_body_may_come_by_itself(connect, taken, jpeg) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(3):
            connection.sendall(head(len(jpeg)))
            time.sleep(BODY_SECONDS / 10)
            connection.sendall(jpeg[:9])
            connection.sendall(jpeg[9:])
            assert answer_of(file)[0] == 200
    assert taken.count(True) >= 1  # all, unless the machine is very slow


def test_answers_come_in_the_order_of_the_requests(connect, taken, jpeg) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(b"".join(head(len(jpeg), f"?top_k={k}") + jpeg for k in (1, 2, 3)))
        assert [len(answer_of(file)[2]["answers"][0]["top_k"]) for _ in range(3)] == [1, 2, 3]
        connection.sendall(2 * (head(len(jpeg), "?colour=red") + jpeg) + head(len(jpeg)) + jpeg)
        assert [answer_of(file)[0] for _ in range(3)] == [422, 422, 200]
    assert taken == [True, True]  # the first of what came at once


def test_who_asks_for_the_end_of_the_connection_gets_it(connect, taken, jpeg) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(head(len(jpeg), more="Connection: close\r\n") + jpeg)
        status, headers, _ = answer_of(file)
        assert (status, headers["connection"]) == (200, "close")
        assert file.read() == b""
    assert taken == [True]


@pytest.fixture
def shut(server, gated):
    """The first stage, shut."""
    runtime = server.app.state.service.engine.stage_threads.runtime
    server.gate(gated)
    gated.shut(0)
    yield gated
    gated.open()
    server.gate(runtime)


def test_a_hang_up_gives_the_slot_back(server, connect, taken, shut, jpeg, wait_until) -> None:
    before = cancelled(server)
    with connect() as connection:
        connection.sendall(head(len(jpeg), "?min_confidence=1") + jpeg)
        assert shut.entered[0].wait(10)
    wait_until(lambda: cancelled(server) == before + 1)
    shut.open()
    wait_until(lambda: server.free_slots() == 8)
    assert server.app.state.service.bodies.held == 0
    assert taken == [True]


def cancelled(server):
    metrics = server.app.state.service.metrics
    return sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.labels.get("outcome") == "cancelled"
    )


def test_half_a_body_and_a_hang_up_harm_nobody(server, connect, taken, jpeg) -> None:
    for pause in (0, 2 * BODY_SECONDS):
        with connect() as connection:
            connection.sendall(head(len(jpeg)) + jpeg[:-5])
            time.sleep(pause)
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(head(len(jpeg)) + jpeg)
        assert answer_of(file)[0] == 200
    assert server.free_slots() == 8
    assert server.app.state.service.bodies.held == 0
    assert taken == [True]


def test_an_error_of_ours_is_told_and_logged(
    server, connect, taken, jpeg, monkeypatch, caplog
) -> None:
    def broken(*_) -> Never:
        raise KeyError("a bug")

    for where in ("decode_small", "content"):
        part = server.app.state.service.decoder if where == "decode_small" else server.app._classify
        with monkeypatch.context() as patch, connect() as connection:
            patch.setattr(type(part), where, broken)
            with connection.makefile("rb") as file:
                connection.sendall(head(len(jpeg)) + jpeg)
                status, headers, problem = answer_of(file)
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        assert problem["detail"].startswith("an error of the server")
    assert [record.name for record in caplog.records] == ["serving.http.fast_path"] * 2
    assert server.free_slots() == 8
    assert taken == [True, True]


def test_all_slots_taken_is_told_with_a_time(
    server, connect, taken, shut, images, wait_until
) -> None:
    body = images(3, 0).tobytes()
    request = head(len(body), kind="application/vnd.offramp.uint8") + body
    with connect() as one, connect() as two, connect() as three:
        for connection in (one, two):
            connection.sendall(request)
        wait_until(lambda: server.free_slots() == 2)
        three.sendall(request)
        with three.makefile("rb") as file:
            status, headers, _ = answer_of(file)
        assert status == 429
        assert int(headers["retry-after"]) >= 1
        shut.open()
        for connection in (one, two):
            with connection.makefile("rb") as file:
                status, _, body = answer_of(file)
            assert status == 200
            assert len(body["answers"]) == 3
    assert taken == [True, True, True]


def test_bodies_are_held_to_what_all_may_hold(server, connect, taken, jpeg, monkeypatch) -> None:
    monkeypatch.setattr(server.app.state.service.bodies, "_max_held", len(jpeg) - 1)
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(head(len(jpeg)) + jpeg)
        assert answer_of(file)[0] == 429
    assert server.app.state.service.bodies.held == 0
    assert taken == [True]


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_deadlines_count_from_the_head_on_either_way(
    connect, taken, images, encode, jpeg, kind
) -> None:
    body = jpeg if kind == "jpeg" else encode(images(1, 0)[0])
    with connect() as connection, connection.makefile("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head(len(body), "?deadline_ms=15"))
        time.sleep(BODY_SECONDS / 2)
        connection.sendall(body)
        assert answer_of(file)[0] == 504
    assert taken in ([kind == "jpeg"], [])  # none on a slow machine


def test_refusals_at_once_do_not_end_a_connection(connect, taken, jpeg, monkeypatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    with connect() as connection, connection.makefile("rb") as file:
        time.sleep(0.2)
        for _ in range(8):
            connection.sendall(head(len(jpeg), "?colour=red") + jpeg)
            assert answer_of(file)[0] == 422
            time.sleep(0.1)
        time.sleep(0.5)  # idle for longer than a head may take
        connection.sendall(head(len(jpeg)) + jpeg)
        assert answer_of(file)[0] == 200
    assert taken == [True] * 9


def test_nothing_of_a_body_is_kept(connect, jpeg) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        for body in (jpeg, b"none"):
            connection.sendall(head(len(body)) + body)
            answer_of(file)
            alive = [each for each in gc.get_objects() if type(each) is protocol.Connection]
            assert alive
            assert all(each._chunks == () and each._head is None for each in alive)


@pytest.mark.parametrize("opens", [True, False])
def test_calls_under_way_are_waited_for_but_not_for_ever(
    bundle, gated, jpeg, wait_until, opens
) -> None:
    with serving(bundle, api_key=KEY, drain_seconds=1) as server:
        server.gate(gated)
        gated.shut(0)
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, timeout=20) as link, link.makefile("rb") as file:
            link.sendall(head(len(jpeg)) + jpeg)
            assert gated.entered[0].wait(10)
            server.stop()
            if opens:
                time.sleep(0.3)
            else:
                wait_until(lambda: cancelled(server) == 1)
            gated.open()
            assert file.readline() == (b"HTTP/1.1 200 OK\r\n" if opens else b"")


def test_pixels_are_answered_as_the_same_image(connect, images) -> None:
    pixels = images(3, 5)
    found = []
    for part in (pixels, pixels[::-1]):
        body = np.ascontiguousarray(part).tobytes()
        with connect() as connection, connection.makefile("rb") as file:
            connection.sendall(head(len(body), kind="application/vnd.offramp.uint8") + body)
            found.append([each["probability"] for each in answer_of(file)[2]["answers"]])
    assert found[0] == pytest.approx(found[1][::-1], abs=1e-5)
