"""Anytime streams from a real server: events in order, the final answer, ends of all kinds."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.http.anytime import stream
from serving.http.app import create_app
from serving.http.schemas import ExitAnswer
from serving.settings import Settings
from tests.serving.answers import counters, problem, total
from tests.serving.servers import GatedRuntime, Running, serving, until
from tests.serving.small_bundle import png, random_images

STREAM = {"accept": "text/event-stream"}
Event = tuple[str, dict[str, Any]]
FLOPS = [100_000, 250_000, 430_000, 700_000]


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png(image, "JPEG") for image in random_images(3, 21)]


def events_of(lines: Iterator[str]) -> Iterator[Event]:
    """Yield the events of a stream as they come."""
    for line in lines:
        kind = line.removeprefix("event: ")
        data = next(lines).removeprefix("data: ")
        assert next(lines) == ""
        yield kind, json.loads(data)


@contextmanager
def streaming(client: httpx.Client, url: str, **request: Any) -> Iterator[Iterator[Event]]:
    with client.stream("POST", url, headers=STREAM, **request) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["x-content-type-options"] == "nosniff"
        yield events_of(response.iter_lines())


def without_times(body: dict[str, Any]) -> dict[str, Any]:
    answers = [{k: v for k, v in each.items() if k != "timings_ms"} for each in body["answers"]]
    return {**body, "answers": answers}


@pytest.mark.parametrize("query", ["budget=full&top_k=3", "min_confidence=0.4", "budget=low"])
def test_every_exit_on_the_way_comes_before_the_answer(
    client: httpx.Client, files: list[bytes], query: str
) -> None:
    url = f"/classify?{query}&explain=true"
    plain = without_times(client.post(url, content=files[0]).json())
    with streaming(client, url, content=files[0]) as events:
        *exits, (last, body) = list(events)
    assert last == "answer"
    assert without_times(body) == plain
    (answer,) = plain["answers"]
    assert [kind for kind, _ in exits] == ["exit"] * answer["exit"]
    for number, (event, opinion) in enumerate(zip(exits, answer["explain"], strict=True), 1):
        assert ExitAnswer.model_validate(event[1]).exit == number
        assert {key: event[1][key] for key in opinion} == opinion
        assert event[1]["flops"] == FLOPS[number - 1]
    final = exits[-1][1]
    assert {key: final[key] for key in ("top_k", "flops")} == {
        key: answer[key] for key in ("top_k", "flops")
    }


def test_a_stream_without_explain_ends_with_a_plain_answer(
    client: httpx.Client, files: list[bytes]
) -> None:
    with streaming(client, "/classify?budget=full", content=files[0]) as events:
        *exits, (_, body) = list(events)
    assert len(exits) == 4
    assert "explain" not in body["answers"][0]


def test_the_events_of_several_images_have_their_numbers(
    client: httpx.Client, files: list[bytes]
) -> None:
    form = [("images", (f"{i}.jpg", file)) for i, file in enumerate(files)]
    with streaming(client, "/classify?budget=full", files=form) as events:
        *exits, (_, body) = list(events)
    for image, answer in enumerate(body["answers"]):
        own = [event for _, event in exits if event["image"] == image]
        assert [event["exit"] for event in own] == [1, 2, 3, 4]
        assert own[-1]["label"] == answer["label"]


def test_an_exit_is_sent_before_the_next_one_runs(
    server: Running, client: httpx.Client, files: list[bytes], gated: GatedRuntime
) -> None:
    server.gate(gated)
    gated.shut(1)
    with streaming(client, "/classify?budget=full", content=files[0]) as events:
        assert next(events)[1]["exit"] == 1
        until(gated.entered[1].is_set)
        gated.open()
        assert [kind for kind, _ in events] == ["exit"] * 3 + ["answer"]


def test_a_client_that_hangs_up_frees_the_slot(
    server: Running, client: httpx.Client, files: list[bytes], gated: GatedRuntime
) -> None:
    server.gate(gated)
    gated.shut(1)
    before = total(counters(client), "offramp_requests_total", outcome="cancelled")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = "POST /classify?budget=full HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        connection.sendall(f"{head}Content-Length: {len(files[0])}\r\n\r\n".encode() + files[0])
        assert b"200 OK" in connection.recv(4096)
        until(gated.entered[1].is_set)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cancelled = {"outcome": "cancelled"}
    until(lambda: total(counters(client), "offramp_requests_total", **cancelled) == before + 1)
    gated.open()
    until(lambda: server.free_slots() == server.app.engine.pool.slots)
    assert gated.batches == [(0, 1), (1, 1)]


def test_a_deadline_ends_a_stream_with_the_deepest_exit(
    server: Running, client: httpx.Client, files: list[bytes], gated: GatedRuntime
) -> None:
    server.gate(gated)
    gated.shut(2)
    query = "/classify?budget=full&deadline_ms=1000"
    with streaming(client, query, content=files[0]) as events:
        *exits, (_, body) = list(events)
    gated.open()
    assert [event["exit"] for _, event in exits] == [1, 2]
    (answer,) = body["answers"]
    assert (answer["exit"], answer["deadline_hit"]) == (2, True)


def test_a_failure_after_the_first_event_is_an_event(
    server: Running, client: httpx.Client, files: list[bytes], gated: GatedRuntime
) -> None:
    server.gate(gated)
    gated.fail_at = 1
    with streaming(client, "/classify?budget=full", content=files[0]) as events:
        (first, _), (last, body) = list(events)
    assert (first, last) == ("exit", "problem")
    assert (body["status"], body["type"]) == (500, "/problems/stage-failed")
    gated.fail_at = 0
    failed = client.post("/classify", content=files[0], headers=STREAM)
    problem(failed, 500, "stage-failed")
    gated.fail_at = None
    assert server.free_slots() == server.app.engine.pool.slots


def test_refusals_are_problems_as_without_a_stream(bundle: Path, files: list[bytes]) -> None:
    options: dict[str, Any] = {"api_key": "s3cret", "slots": 1, "max_images": 1}
    with serving(bundle, **options, max_body_bytes=60_000) as server, server.client as client:
        key = STREAM | {"authorization": "Bearer s3cret"}
        problem(client.post("/classify", content=files[0], headers=STREAM), 401, "unauthorized")
        for query, content, status, kind in (
            ("budget=huge", files[0], 422, "unknown-budget"),
            ("deadline_ms=0.001", files[0], 422, "deadline"),
            ("", b"?", 415, "not-an-image"),
            ("", bytes(60_001), 413, "body-too-large"),
        ):
            response = client.post(f"/classify?{query}", content=content, headers=key)
            problem(response, status, kind)
        slots = server.app.engine.pool.take(1)
        problem(client.post("/classify", content=files[0], headers=key), 429, "pool-full")
        server.app.engine.pool.give(slots[0])
        assert client.post("/classify", content=files[0], headers=key).status_code == 200


@pytest.mark.parametrize(("unread", "bodies"), [(b"event: exit", 1), (b"event: answer", 5)])
def test_a_client_that_does_not_read_is_given_up(
    bundle: Path,
    files: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    unread: bytes,
    bodies: int,
) -> None:
    monkeypatch.setattr(stream, "WRITE_SECONDS", 0.05)
    app = create_app(Settings(bundle=bundle, threads=1, max_batch=2, slots=2, max_images=1))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/classify",
        "query_string": b"budget=full",
        "headers": [(b"accept", b"text/event-stream")],
    }
    sent = []

    async def call() -> None:
        body = [{"type": "http.request", "body": files[0], "more_body": False}]
        forever = asyncio.Event()

        async def receive() -> Any:
            if not body:
                await forever.wait()
            return body.pop()

        async def send(message: Any) -> None:
            sent.append(message["type"])
            if message.get("body", b"").startswith(unread):
                await forever.wait()

        async with asyncio.timeout(20):
            await app(scope, receive, send)
        await app.drain()

    asyncio.run(call())
    assert sent == ["http.response.start"] + ["http.response.body"] * bodies
    assert app.engine.pool.free == 2


def test_http_1_0_gets_the_answer_at_once(server: Running, files: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = "POST /classify HTTP/1.0\r\nAccept: text/event-stream\r\n"
        connection.sendall(f"{head}Content-Length: {len(files[0])}\r\n\r\n".encode() + files[0])
        with connection.makefile("rb") as file:
            response = file.read()
    assert b"content-type: application/json" in response
