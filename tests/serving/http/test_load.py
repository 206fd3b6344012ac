"""Full slots, disconnects, deadlines and failures, over real HTTP."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.answers import counters, labels, problem, total
from tests.serving.servers import GatedRuntime, Running, serving, until
from tests.serving.small_bundle import png, random_images


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png(image) for image in random_images(64, 21)]


def test_without_free_slots_the_response_is_429_with_retry_after(
    bundle: Path, gated: GatedRuntime, files: list[bytes]
) -> None:
    with serving(bundle, slots=2, max_images=2) as server, server.client as client:
        server.gate(gated)
        gated.shut(0)
        with ThreadPoolExecutor(2) as pool:
            held = [pool.submit(client.post, "/classify", content=files[0]) for _ in range(2)]
            until(lambda: server.free_slots() == 0)
            response = client.post("/classify", content=files[0])
            assert "Retry-After" in problem(response, 429, "pool-full")
            assert response.headers["retry-after"] == "1"
            gated.open()
            assert all(labels(call.result()) for call in held)
        assert labels(client.post("/classify", content=files[0]))
        assert total(counters(client), "offramp_requests_total", outcome="refused") == 1


def test_a_disconnect_gives_the_slot_back(
    bundle: Path, gated: GatedRuntime, files: list[bytes]
) -> None:
    with serving(bundle, threads=1, max_batch=1) as server, server.client as client:
        server.gate(gated)
        gated.shut(0)
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(files[0])}\r\n\r\n"
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for each in clients:
            each.sendall(head.encode() + files[0])
        until(lambda: server.free_slots() == 251)
        for each in clients:
            each.close()
        until(lambda: total(counters(client), "offramp_requests_total", outcome="cancelled") == 5)
        assert server.free_slots() >= 255, "one can be in a batch, which gives it back at its end"
        gated.open()
        until(lambda: server.free_slots() == 256)


def test_a_disconnect_after_a_large_body_is_noticed(
    bundle: Path, gated: GatedRuntime, files: list[bytes]
) -> None:
    body = files[0] + bytes(100_000)  # bytes after the image are ignored
    with serving(bundle, threads=1, max_batch=1) as server, server.client as client:
        server.gate(gated)
        gated.shut(0)
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(head.encode())
            time.sleep(0.1)  # the server waits for the body
            raw.sendall(body)
            until(lambda: server.free_slots() == 255)
        until(lambda: total(counters(client), "offramp_requests_total", outcome="cancelled") == 1)
        gated.open()
        until(lambda: server.free_slots() == 256)


def test_a_disconnect_within_a_body_is_not_an_error(
    server: Running, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert client.get("/health/ready").status_code == 200
    assert caplog.text == ""


def test_at_the_deadline_the_deepest_exit_reached_answers(
    bundle: Path, gated: GatedRuntime, files: list[bytes]
) -> None:
    with serving(bundle) as server, server.client as client:
        server.gate(gated)
        gated.shut(1)
        query: dict[str, str | int] = {"budget": "full", "deadline_ms": 500}
        body = client.post("/classify", params=query, content=files[0]).json()
        assert body["answers"][0]["deadline_hit"]
        assert body["answers"][0]["exit"] == 1
        assert 490 <= body["answers"][0]["timings_ms"]["total"] < 20_000
        gated.shut(0)
        response = client.post("/classify", params=query, content=files[0])
        assert "before the first exit" in problem(response, 504, "deadline")
        gated.open()


@pytest.mark.parametrize("deadline", ["0.001", "1"])
def test_a_deadline_that_an_idle_server_misses_is_an_error_of_the_client(
    client: httpx.Client, files: list[bytes], deadline: str
) -> None:
    jpeg = png(random_images(1, 0)[0], "JPEG")  # answered by the fast path
    large = png(np.zeros((900, 900, 3), np.uint8))  # passes the deadline while it is decoded
    for content in (files[0], jpeg, large):
        response = client.post(f"/classify?deadline_ms={deadline}", content=content)
        if response.status_code != 200:  # a very fast machine can keep one of 1 ms
            assert "an idle server needs" in problem(response, 422, "deadline")
    assert deadline == "1" or response.status_code == 422


def test_a_deadline_can_pass_during_decoding(server: Running, client: httpx.Client) -> None:
    slow = png(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8))
    response = client.post("/classify?deadline_ms=8", content=slow)
    assert "deadline_ms passed while decoding" in problem(response, 504, "deadline")
    assert server.free_slots() == 256


def test_a_failed_stage_is_500_and_the_next_call_succeeds(
    bundle: Path, gated: GatedRuntime, files: list[bytes]
) -> None:
    with serving(bundle) as server, server.client as client:
        server.gate(gated)
        gated.fail_at = 0
        detail = problem(client.post("/classify", content=files[0]), 500, "stage-failed")
        assert "fell over" not in detail  # details are only in the log
        gated.fail_at = None
        assert labels(client.post("/classify", content=files[0]))
