"""Refusals are problems in the order of the requests. Half-closed clients are answered."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx
import pytest

from serving.http.connection import refusing
from tests.serving.answers import counters, total
from tests.serving.http.raw import answer_of, exchange, statuses_of
from tests.serving.servers import GatedRuntime, Running, serving, until
from tests.serving.small_bundle import png, random_images

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
JPEG = png(random_images(1, 0)[0], "JPEG")
POST = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
BEGUN = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnone\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "kind", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed-request", "0 Host headers"),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400, "malformed-request", "Invalid header token"),
        (b"FOO / HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed-request", "Invalid method"),
        (b"GET x HTTP/1.1\r\nhost: x\r\n\r\n", 400, "malformed-request", "url"),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505, "version-not-supported", "HTTP/1.1"),
        (b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 9000), 414, "target-too-long", "8192 bytes"),
        (b"GET / HTTP/1.1\r\na: %b\r\n\r\n" % (b"x" * 70000), 431, "head-too-large", "65536"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 102, 431, "head-too-large", "100 headers"),
        (BEGUN + b"x", 400, "malformed-request", "chunk size"),
    ],
)
def test_each_refusal_is_a_problem_that_is_counted(
    server: Running, client: httpx.Client, request_bytes: bytes, status: int, kind: str, says: str
) -> None:
    def refused() -> float:
        samples = counters(client).get("offramp_problems_total", [])
        return sum(count for labels, count in samples if labels["type"] == kind)

    before = refused()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(request_bytes)
        with raw.makefile("rb") as file:
            found, headers, body = answer_of(file)
            assert file.read() == b""
    assert (found, body["status"], body["type"]) == (status, status, f"/problems/{kind}")
    assert says in body["detail"]
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    assert "date" in headers
    assert refused() == before + 1


def test_a_compressed_body_is_refused_by_name(client: httpx.Client) -> None:
    headers = {"content-encoding": "x-snappy"}
    for content in (JPEG, b"x" * (1 << 20)):
        response = client.post("/classify", content=content, headers=headers)
        assert (response.status_code, response.json()["type"]) == (
            415,
            "/problems/content-encoding",
        )
        assert "x-snappy" in response.json()["detail"]
        assert response.headers["accept-encoding"] == "identity"
    response = client.post("/classify", content=JPEG, headers={"content-encoding": "identity"})
    assert response.status_code == 200


def test_a_refusal_comes_after_the_responses_to_earlier_requests(
    server: Running, gated: GatedRuntime
) -> None:
    server.gate(gated)
    for broken in (b"nonsense\r\n\r\n", BEGUN + b"x"):
        gated.shut(0)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(POST % (len(JPEG), JPEG) + LIVE + broken + LIVE)
            assert gated.entered[0].wait(10)
            time.sleep(0.1)
            gated.open()
            assert statuses_of(raw) == [200, 200, 400]


def test_damaged_chunks_end_a_request_that_has_begun_with_one_response(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(BEGUN)
        time.sleep(0.1)  # the application waits for the rest
        raw.sendall(b"x" + LIVE)
        assert statuses_of(raw) == [400]
    until(lambda: server.app.state.context.body_reader.held == 0)


def test_damaged_chunks_after_a_response_get_no_second_one(server: Running) -> None:
    refused = BEGUN.replace(b"/classify", b"/classify?colour=red")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(refused)
        time.sleep(0.1)  # it is answered without its body
        raw.sendall(b"x" + LIVE)
        assert statuses_of(raw) == [422]


# --- half-closed clients ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["fast", "slow"])
def test_a_client_that_shuts_its_sending_side_is_answered(server: Running, path: str) -> None:
    body = JPEG if path == "fast" else png(random_images(1, 0)[0])
    assert exchange(server.port, POST % (len(body), body)) == [200]
    assert exchange(server.port, POST % (len(body), body) + LIVE) == [200, 200]
    assert exchange(server.port, LIVE + POST % (len(body) + 1, body)) == [200]  # not whole


def test_a_client_that_is_gone_does_not_keep_its_slot_for_long(
    server: Running,
    client: httpx.Client,
    gated: GatedRuntime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cancelled() -> float:
        return total(counters(client), "offramp_requests_total", outcome="cancelled")

    monkeypatch.setattr(refusing, "HALF_CLOSED_SECONDS", 1.0)
    server.gate(gated)
    gated.shut(0)
    free, before = server.free_slots(), cancelled()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(POST.replace(b"classify", b"classify?min_confidence=1") % (len(JPEG), JPEG))
        assert gated.entered[0].wait(10)
    time.sleep(0.1)
    assert cancelled() == before
    until(lambda: cancelled() == before + 1)
    gated.open()
    until(lambda: server.free_slots() == free)


def test_shutdown_ends_with_a_client_that_was_refused_and_stays(bundle: Path) -> None:
    with (
        serving(bundle, drain_seconds=60) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw,
    ):
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.recv(12) == b"HTTP/1.1 400"
        start = time.monotonic()
        server.stop()
        until(lambda: not server.server.server_state.connections)
        assert time.monotonic() - start < 20
