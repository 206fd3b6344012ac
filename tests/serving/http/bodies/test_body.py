"""Bodies of calls over real HTTP."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from time import perf_counter

import httpx
import numpy as np
import pytest

from serving.http.schemas import Classification
from tests.serving.answers import labels, problem
from tests.serving.servers import GatedRuntime, Running, serving, until
from tests.serving.small_bundle import png, random_images

PIXELS = {"content-type": "application/vnd.offramp.uint8"}
FLOPS = [100_000, 250_000, 430_000, 700_000]


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png(image) for image in random_images(5, 21)]


@pytest.mark.parametrize(
    "kind", [None, "image/png", "application/octet-stream", "application/x-www-form-urlencoded"]
)
def test_a_raw_body_of_any_other_type_is_an_image(
    client: httpx.Client, files: list[bytes], kind: str | None
) -> None:
    headers = {"content-type": kind} if kind else {}
    response = client.post("/classify?budget=low&top_k=3", content=files[0], headers=headers)
    assert response.status_code == 200
    body = Classification.model_validate_json(response.content)
    assert (body.model.name, body.model.version, body.budget) == ("testnet", "1", "low")
    (answer,) = body.answers
    assert answer.label == answer.top_k[0].label == f"class{answer.index}"
    assert len(answer.top_k) == 3
    assert answer.flops == FLOPS[answer.exit - 1]
    assert answer.timings_ms.total >= answer.timings_ms.compute > 0
    assert answer.explain is None


def test_multipart_json_and_raw_give_equal_answers(
    client: httpx.Client, files: list[bytes]
) -> None:
    raw = [labels(client.post("/classify", content=file))[0] for file in files[:5]]
    form = [("images", (f"{i}.png", file, "image/png")) for i, file in enumerate(files[:5])]
    assert labels(client.post("/classify", files=form)) == raw
    encoded = [base64.b64encode(file).decode() for file in files[:5]]
    assert labels(client.post("/classify", json={"images": encoded})) == raw


def test_pixels_and_files_give_equal_answers(client: httpx.Client, files: list[bytes]) -> None:
    pixels = random_images(5, 21)
    raw = [labels(client.post("/classify", content=file))[0] for file in files[:5]]
    answer = client.post("/classify", content=pixels.tobytes(), headers=PIXELS)
    assert labels(answer) == raw
    one = client.post("/classify?explain=true", content=pixels[3].tobytes(), headers=PIXELS)
    assert labels(one) == raw[3:4]


def test_pixels_have_a_path_of_their_own(client: httpx.Client) -> None:
    pixels = random_images(2, 21)
    expected = labels(client.post("/classify", content=pixels.tobytes(), headers=PIXELS))
    for kind in ("application/octet-stream", "application/json", PIXELS["content-type"]):
        headers = {"content-type": kind}
        response = client.post("/classify/pixels", content=pixels.tobytes(), headers=headers)
        assert labels(response) == expected
    assert "an image is 32 x 32 x 3" in problem(
        client.post("/classify/pixels", content=b"x"), 400, "malformed-body"
    )


def test_other_requests_are_answered_while_large_bodies_are_read(server: Running) -> None:
    """Four bodies of 15 MB are complete at the same time, and the health check comes after them."""
    image = base64.b64encode(bytes(11 << 20))
    json_body = b'{"images": ["' + image + b'"]}'
    head = (
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(json_body)
    )
    reader = server.app.state.context.body_reader
    with ExitStack() as stack:
        senders = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            for _ in range(4)
        ]
        for sender in senders:
            sender.sendall(head + json_body[:-1])
        until(lambda: reader.held == 4 * (len(json_body) - 1))
        for sender in senders:
            sender.sendall(json_body[-1:])
        with server.client as client:
            start = perf_counter()
            assert client.get("/health/live").status_code == 200
            seconds = perf_counter() - start
        assert all(sender.recv(100).startswith(b"HTTP/1.1 415") for sender in senders)
    assert seconds < 1
    until(lambda: reader.held == 0)


def until_closed(connection: socket.socket) -> Iterator[bytes]:
    while received := connection.recv(65536):
        yield received


@pytest.mark.parametrize("size", [0, 1, 3071, 3073, 17 * 3072])
def test_pixels_of_a_wrong_length_are_refused(client: httpx.Client, size: int) -> None:
    response = client.post("/classify", content=bytes(size), headers=PIXELS)
    detail = problem(response, 400, "malformed-body")
    assert f"{size} bytes; an image is 32 x 32 x 3 = 3072" in detail
    assert "send 1 to 16" in detail


def test_a_large_file_in_a_form_is_read(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    data = png(noise)
    assert len(data) > 2_000_000
    raw = labels(client.post("/classify", content=data))
    assert labels(client.post("/classify", files={"file": data})) == raw


def test_a_body_in_chunks_is_read(client: httpx.Client, files: list[bytes]) -> None:
    chunks = (files[0][i : i + 100] for i in range(0, len(files[0]), 100))
    assert labels(client.post("/classify", content=chunks))


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"{", "application/json", "send {"),
        (b'{"images": []}', "application/json", "images"),
        (b'{"images": ["?"]}', "application/json", "images.0"),
        (b'{"image": ["aGk="]}', "application/json; charset=utf-8", "images"),
        (b"--x\r\n", "multipart/form-data; boundary=x", "ends before its last boundary"),
        (b"nothing", "multipart/form-data; boundary=x", "multipart form"),
        (b"nothing", "multipart/form-data", "boundary"),
        (b"--B\r\n", "multipart/form-data; boundary=B; charset=undefined", "ends before"),
        (b"\xff", "application/json; charset=punycode", "invalid JSON"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "0 images"),
        (
            b'--x\r\nContent-Disposition: form-data; name="budget"\r\n\r\nlow\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "'budget'",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nhalf',
            "multipart/form-data; boundary=x",
            "ends before its last boundary",
        ),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(
    client: httpx.Client, content: bytes, kind: str, says: str
) -> None:
    response = client.post("/classify", content=content, headers={"content-type": kind})
    assert says in problem(response, 400, "malformed-body")


def test_too_many_images_in_one_call_are_refused(client: httpx.Client, files: list[bytes]) -> None:
    encoded = [base64.b64encode(files[0]).decode()] * 17
    response = client.post("/classify", json={"images": encoded})
    assert "17 images; send 1 to 16" in problem(response, 400, "malformed-body")
    form = [("images", (f"{i}.png", files[0], "image/png")) for i in range(17)]
    response = client.post("/classify", files=form)
    assert "more than 16 images" in problem(response, 400, "malformed-body")


def test_a_body_without_end_is_refused_while_it_is_read(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        sent = 0
        with suppress(ConnectionError):
            while sent < 1 << 30:
                raw.sendall(chunk)
                sent += 0x10000
        answer = raw.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"/problems/body-too-large" in answer
    assert sent < 64 << 20


def test_a_length_over_the_limit_is_refused_before_the_body_is_read(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert raw.recv(65536).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_arrive_in_time_is_408(bundle: Path, files: list[bytes]) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n"
    with serving(bundle, body_seconds=0.2) as server:
        for begun in (b"", files[0][:50]):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
                raw.sendall(head + begun)
                answer = b"".join(until_closed(raw))
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"/problems/body-timeout" in answer
            assert b"took more than 0.2 s" in answer
        assert server.app.state.context.body_reader.held == 0
        with server.client as client:
            assert labels(client.post("/classify", content=files[0]))


def test_the_total_size_of_all_bodies_is_bounded(
    bundle: Path, gated: GatedRuntime, files: list[bytes]
) -> None:
    size = max(map(len, files))
    with serving(bundle, max_body_bytes=size, max_held_bytes=2 * size) as server:
        body_reader = server.app.state.context.body_reader
        server.gate(gated)
        gated.shut(0)
        with server.client as client, ThreadPoolExecutor(2) as pool:
            held = [pool.submit(client.post, "/classify", content=file) for file in files[:2]]
            until(lambda: body_reader.held == len(files[0]) + len(files[1]))
            response = client.post("/classify", content=bytes(size))
            assert "try again" in problem(response, 429, "bodies-full")
            assert response.headers["retry-after"] == "1"
            gated.open()
            assert all(labels(call.result()) for call in held)
            until(lambda: body_reader.held == 0)
            assert labels(client.post("/classify", content=files[0]))


def test_the_bytes_of_every_body_are_released(
    server: Running, client: httpx.Client, files: list[bytes]
) -> None:
    too_large, body_reader = b"x" * ((16 << 20) + 1), server.app.state.context.body_reader
    for content in (files[0], b"?", b"", too_large, (too_large[:100_000] for _ in range(170))):
        client.post("/classify", content=content)
    client.post("/classify", content=b"{", headers={"content-type": "application/json"})
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        until(lambda: body_reader.held == 3)
    until(lambda: body_reader.held == 0)
