"""The fast path with disconnects, errors, full slots, deadlines and at shutdown."""

from __future__ import annotations

import gc
import socket
import time
from pathlib import Path
from typing import Never

import pytest

from serving.http.classify import Classify
from serving.http.connection import BODY_SECONDS, Connection, protocol
from serving.images.decoder import Decoder
from tests.serving.http.raw import KEY, PIXELS, Connect, Taken, answer_of, head
from tests.serving.servers import GatedRuntime, Running, serving, until
from tests.serving.small_bundle import png, random_images


def test_a_disconnect_gives_the_slot_back(
    fast_server: Running, connect: Connect, taken: Taken, shut: GatedRuntime, jpeg: bytes
) -> None:
    before = cancelled(fast_server)
    with connect() as connection:
        connection.sendall(head(len(jpeg), "?min_confidence=1") + jpeg)
        assert shut.entered[0].wait(10)
    until(lambda: cancelled(fast_server) == before + 1)
    shut.open()
    until(lambda: fast_server.free_slots() == 8)
    assert fast_server.app.state.context.body_reader.held == 0
    assert taken == [True]


def cancelled(server: Running) -> float:
    metrics = server.app.state.context.metrics
    return sum(
        float(sample.value)
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.labels.get("outcome") == "cancelled"
    )


def test_a_disconnect_within_a_body_does_not_affect_other_clients(
    fast_server: Running, connect: Connect, taken: Taken, jpeg: bytes
) -> None:
    for pause in (0, 2 * BODY_SECONDS):
        with connect() as connection:
            connection.sendall(head(len(jpeg)) + jpeg[:-5])
            time.sleep(pause)
    with connect() as connection, connection.makefile("rb") as file:
        connection.sendall(head(len(jpeg)) + jpeg)
        assert answer_of(file)[0] == 200
    assert fast_server.free_slots() == 8
    assert fast_server.app.state.context.body_reader.held == 0
    assert taken == [True]


def test_an_internal_error_is_answered_and_logged(
    fast_server: Running,
    connect: Connect,
    taken: Taken,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> Never:
        raise KeyError("a bug")

    for part, method in ((Decoder, "decode_small"), (Classify, "content")):
        with monkeypatch.context() as patch, connect() as connection:
            patch.setattr(part, method, broken)
            with connection.makefile("rb") as file:
                connection.sendall(head(len(jpeg)) + jpeg)
                status, headers, problem = answer_of(file)
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        assert problem["detail"].startswith("an error of the server")
    assert [record.name for record in caplog.records] == ["serving.http.fast_path"] * 2
    assert fast_server.free_slots() == 8
    assert taken == [True, True]


def test_without_free_slots_the_response_says_when_to_retry(
    fast_server: Running, connect: Connect, taken: Taken, shut: GatedRuntime
) -> None:
    pixels = random_images(3, 0).tobytes()
    request = head(len(pixels), kind=PIXELS) + pixels
    with connect() as one, connect() as two, connect() as three:
        for connection in (one, two):
            connection.sendall(request)
        until(lambda: fast_server.free_slots() == 2)
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


def test_the_total_size_of_all_bodies_is_bounded(bundle: Path, jpeg: bytes) -> None:
    size = len(jpeg)
    with serving(bundle, api_key=KEY, max_body_bytes=size, max_held_bytes=2 * size - 1) as server:
        reader = server.app.state.context.body_reader
        reader.hold(len(jpeg))
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, timeout=20) as link, link.makefile("rb") as file:
            link.sendall(head(len(jpeg)) + jpeg)
            status, headers, _ = answer_of(file)
            assert (status, headers["connection"], file.read()) == (429, "close", b"")
        reader.release(len(jpeg))
        assert reader.held == 0
        with socket.create_connection(address, timeout=20) as link, link.makefile("rb") as file:
            link.sendall(head(len(jpeg)) + jpeg)
            assert answer_of(file)[0] == 200


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_deadlines_count_from_the_arrival_of_the_head_on_both_paths(
    connect: Connect, taken: Taken, jpeg: bytes, kind: str
) -> None:
    body = jpeg if kind == "jpeg" else png(random_images(1, 0)[0])
    with connect() as connection, connection.makefile("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head(len(body), "?deadline_ms=15"))
        time.sleep(BODY_SECONDS / 2)
        connection.sendall(body)
        assert answer_of(file)[0] == 504
    assert taken in ([kind == "jpeg"], [])  # empty on a slow machine


def test_refusals_on_the_fast_path_keep_the_connection_open(
    connect: Connect, taken: Taken, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    with connect() as connection, connection.makefile("rb") as file:
        for _ in range(8):
            connection.sendall(head(len(jpeg), "?colour=red") + jpeg)
            assert answer_of(file)[0] == 422
            time.sleep(0.1)
        time.sleep(0.5)  # idle for longer than the limit of a head
        connection.sendall(head(len(jpeg)) + jpeg)
        assert answer_of(file)[0] == 200
    assert taken == [True] * 9


def test_a_connection_keeps_nothing_of_an_answered_request(connect: Connect, jpeg: bytes) -> None:
    with connect() as connection, connection.makefile("rb") as file:
        for body in (jpeg, b"none"):
            connection.sendall(head(len(body)) + body)
            answer_of(file)
            alive = [each for each in gc.get_objects() if type(each) is Connection]
            assert alive
            assert not any(each.pending for each in alive)


@pytest.mark.parametrize("opens", [True, False])
def test_shutdown_waits_for_calls_under_way_but_not_for_ever(
    bundle: Path,
    gated: GatedRuntime,
    jpeg: bytes,
    opens: bool,
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
                until(lambda: cancelled(server) == 1)
            gated.open()
            assert file.readline() == (b"HTTP/1.1 200 OK\r\n" if opens else b"")
