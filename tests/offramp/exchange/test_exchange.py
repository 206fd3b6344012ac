from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from offramp import Client, OfframpError, TransportError
from offramp.answers import Answer
from offramp.bundle.manifest import Manifest
from offramp.errors import UsageError
from serving.errors import (
    BodyTooLargeError,
    DeadlineError,
    DeadlineTooShortError,
    EmptyBodyError,
    InvalidRequestError,
    MalformedBodyError,
    PoolFullError,
    ServingError,
    UnauthorizedError,
)
from tests.offramp.pictures import files
from tests.serving.servers import GatedRuntime, Running, serving
from tests.serving.small_bundle import SIZE


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Running]:
    with serving(bundle, api_key="secret") as running:
        yield running


Response = tuple[int, dict[str, str], bytes]


def classify(url: str, **options: Any) -> list[Answer]:
    with Client(url, **options) as client:
        return client.classify(files(1))


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_wrong_key_is_unauthorized(server: Running, key: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        classify(server.url, api_key=key)


def test_a_path_that_the_server_does_not_serve_is_an_error(server: Running) -> None:
    with pytest.raises(InvalidRequestError, match="is not served"):
        classify(f"{server.url}/elsewhere", api_key="secret")


def test_a_server_that_is_not_there_is_a_transport_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransportError, match=f"http://127.0.0.1:{port}/classify"):
        classify(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1:8000", "http://", "ftp://x", ""])
def test_a_url_without_scheme_or_host_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match=r"give the URL of a server, as http://localhost:8000"):
        Client(url)


@pytest.mark.parametrize(
    ("url", "error"),
    [("http://a..b", TransportError), ("http://[", TransportError), ("http://a:x", UsageError)],
)
def test_a_url_of_no_server_is_named(url: str, error: type[OfframpError]) -> None:
    with pytest.raises(error, match=r"a\.\.b|http"):
        classify(url)


def test_a_key_that_cannot_be_sent_is_an_error_without_it(server: Running) -> None:
    with pytest.raises(UsageError, match="the API key has") as caught:
        classify(server.url, api_key="s\u00e9cret")
    assert "cret" not in str(caught.value)


def test_a_server_that_says_nothing_is_a_transport_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TransportError):
            classify(url, timeout=0.1)


@contextmanager
def other_server(*responses: Response) -> Iterator[tuple[str, list[str]]]:
    """A server that is not Offramp's: it gives these responses, the last one for ever."""
    remaining, paths = list(responses), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            status, headers, body = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", paths
        finally:
            listening.shutdown()
            thread.join()


PROBLEM = b'{"type": "/problems/%s", "title": "", "status": 0, "detail": "no"}'


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>", TransportError),
        (200, b"{}", TransportError),
        (200, b"[]", TransportError),
        (302, b"", TransportError),
        (502, b"<html>", TransportError),
        (404, b'{"detail": "Not Found"}', TransportError),
        (418, PROBLEM % b"teapot", InvalidRequestError),
        (500, PROBLEM % b"internal", ServingError),
        (507, PROBLEM % b"storage", ServingError),
        (400, PROBLEM % b"malformed-body", MalformedBodyError),
        (504, PROBLEM % b"deadline", DeadlineError),
        (422, PROBLEM % b"deadline", DeadlineTooShortError),  # no retry helps
        (503, PROBLEM % b"deadline", DeadlineError),
    ],
)
def test_unknown_responses_are_errors(status: int, body: bytes, error: type[OfframpError]) -> None:
    with other_server((status, {}, body)) as (url, _), pytest.raises(OfframpError) as raised:
        classify(url)
    assert type(raised.value) is error


BUSY = (429, {"Retry-After": "1"}, PROBLEM % b"pool-full")


def test_a_busy_server_is_not_asked_again_by_default() -> None:
    with other_server(BUSY) as (url, paths), pytest.raises(PoolFullError) as raised:
        classify(url)
    assert raised.value.headers == {"Retry-After": "1"}
    assert len(paths) == 1


def test_retries_sleep_as_the_server_says_and_are_bounded() -> None:
    started = perf_counter()
    with other_server(BUSY) as (url, paths), pytest.raises(PoolFullError):
        classify(url, retries=2)
    assert len(paths) == 3
    assert perf_counter() - started >= 2


@pytest.mark.parametrize("header", [{}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}])
def test_without_seconds_a_retry_follows_soon(header: dict[str, str]) -> None:
    responses: list[Response] = [
        (503, header, b""),
        (503, header, b""),
        (400, {}, PROBLEM % b"empty-body"),
    ]
    with other_server(*responses) as (url, paths), pytest.raises(EmptyBodyError):
        classify(url, retries=5)
    assert len(paths) == 3


@pytest.mark.parametrize("longest", [0, 0.0])
def test_a_retry_sleeps_no_longer_than_the_bound_of_either_type(longest: float) -> None:
    with other_server((503, {}, b"")) as (url, paths), pytest.raises(OfframpError):
        classify(url, retries=3, max_retry_seconds=longest)
    assert len(paths) == 4


def test_a_server_that_is_busy_for_long_is_not_waited_for() -> None:
    busy = (503, {"Retry-After": "3600"}, PROBLEM % b"not-ready")
    with other_server(busy) as (url, paths), pytest.raises(ServingError):
        classify(url, retries=5)
    assert len(paths) == 1


def test_other_errors_are_not_retried() -> None:
    internal: Response = (500, {}, PROBLEM % b"internal")
    with other_server(internal) as (url, paths), pytest.raises(ServingError):
        classify(url, retries=5)
    assert len(paths) == 1


def test_a_retry_succeeds_once_a_slot_is_free(bundle: Path, manifest: Manifest) -> None:
    gated = GatedRuntime(bundle, manifest)
    with serving(bundle, slots=1, max_images=1) as server, Client(server.url, retries=5) as client:
        server.gate(gated)
        gated.shut(0)
        first = threading.Thread(target=client.classify, args=(files(1),))
        first.start()
        assert gated.entered[0].wait(10)
        threading.Timer(0.3, gated.open).start()
        assert client.classify(files(1, 1))
        first.join()


@pytest.mark.parametrize(
    ("height", "error"),
    [(2 * SIZE, TransportError), (2 * SIZE + 1, MalformedBodyError)],
    ids=["the bytes of two images", "the bytes of no number of images"],
)
def test_after_a_change_of_the_input_the_model_is_described_again(
    server: Running, height: int, error: type[OfframpError]
) -> None:
    pixels = np.zeros((height, SIZE, 3), np.uint8)
    with Client(server.url, "secret") as client:
        model = client.model()
        other = model.input.model_copy(update={"height": height})
        client._exchange._known = replace(model, input=other)  # that of the server before
        with pytest.raises(error, match="image"):
            client.classify(pixels)
        assert len(client.classify(pixels)) == 1


@pytest.mark.parametrize(
    ("last", "error"), [(b"", EmptyBodyError), (bytes(1 << 21), BodyTooLargeError)]
)
def test_an_image_that_is_sent_alone_is_named_by_its_number(
    bundle: Path, last: bytes, error: type[OfframpError]
) -> None:
    with serving(bundle, max_body_bytes=1 << 20) as server, Client(server.url) as client:
        with pytest.raises(error, match=r"^image 17: "):
            client.classify([*files(16), last])
        assert "image" not in str(next(client.classify_iter([last]))).partition(" ")[0]
