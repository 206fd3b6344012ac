"""Requests of all framings on a real connection, whole, in parts and pipelined, within bounds."""

from __future__ import annotations

import itertools
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.http.connection.heads import MAX_FIELDS, MAX_HEAD_BYTES, MAX_TARGET_BYTES
from tests.serving.http.raw import exchange, statuses_of
from tests.serving.servers import Running
from tests.serving.small_bundle import png, random_images

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
PNG = png(random_images(1, 0)[0])
JPEG = png(random_images(1, 0)[0], "JPEG")
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def post(body: bytes, more: bytes = b"", query: bytes = b"") -> bytes:
    """Return a request with a body of known length."""
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST /classify%b HTTP/1.1\r\nHost: x\r\n%b%b\r\n%b" % (query, length, more, body)


def chunked(body: bytes, size: int, more: bytes = b"", trailers: bytes = b"") -> bytes:
    """Return a request with a body in chunks of this size."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (CHUNKED, more)
    return head + chunks + b"0\r\n" + trailers + b"\r\n"


TRAILERS = (
    b"Content-Type: application/json\r\nHost: y\r\nExpect: 100-continue\r\nAuthorization: z\r\n"
    b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Encoding: gzip\r\n"
)
ANSWERED = {
    "get": (LIVE, 200),
    "get of a URL": (b"GET http://h/health/live HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "get with blank lines before": (b"\r\n\r\n" + LIVE, 200),
    "fast path": (post(JPEG), 200),
    "refused on the fast path": (post(JPEG, query=b"?colour=red"), 422),
    "other format": (post(PNG), 200),
    "body that looks like requests": (post(LIVE + LIVE), 415),
    "chunks": (chunked(PNG, 100), 200),
    "small chunks": (chunked(JPEG, 7), 200),
    "chunks that look like requests": (chunked(LIVE + LIVE, 99), 415),
    "trailers": (chunked(PNG, 1000, trailers=TRAILERS), 200),
    "offer of HTTP/2": (post(JPEG, OFFER), 200),
    "offer of HTTP/2 with chunks": (chunked(PNG, 500, OFFER), 200),
    "offer of HTTP/2 without a body": (LIVE[:-2] + OFFER + b"\r\n", 200),
    "not found": (LIVE.replace(b"live", b"dead"), 404),
    "compressed": (post(PNG, b"Content-Encoding: gzip\r\n"), 415),
}
REFUSED = {
    "nothing": (b"", None),
    "no host": (b"GET /health/live HTTP/1.1\r\n\r\n", 400),
    "two hosts": (LIVE[:-2] + b"Host: x\r\n\r\n", 400),
    "wrong host": (LIVE.replace(b" x", b" a b"), 400),
    "HTTP/2.0": (LIVE.replace(b"1.1", b"2.0"), 505),
    "HTTP/0.9": (b"GET /health/live\r\n\r\n", 505),
    "HTTP/1.2": (LIVE.replace(b"1.1", b"1.2"), 505),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "connect": (b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 400),
    "two lengths": (post(PNG, b"Content-Length: 1\r\n"), 400),
    "length and chunks": (post(PNG, CHUNKED), 400),
    "coding that is not read": (chunked(PNG, 9).replace(b"chunked", b"gzip, chunked"), 400),
    "damaged chunks": (chunked(PNG, 1000).replace(b"\r\n0\r\n", b"0\r\n", 1), 400),
    "long target": (LIVE.replace(b"live", b"x" * MAX_TARGET_BYTES), 414),
    "many headers": (LIVE[:-2] + b"a: b\r\n" * MAX_FIELDS + b"\r\n", 431),
    "length in trailers": (chunked(PNG, 1000, trailers=b"Content-Length: 5\r\n"), 400),
    "many trailers": (chunked(PNG, 1000, trailers=b"a: b\r\n" * MAX_FIELDS), 431),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_a_request_is_answered_whole_and_byte_by_byte(server: Running, name: str) -> None:
    request, status = ANSWERED[name]
    assert exchange(server.port, request) == [status]
    assert exchange(server.port, *(bytes([each]) for each in request)) == [status]


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_request_is_refused_whole_and_byte_by_byte(server: Running, name: str) -> None:
    request, status = REFUSED[name]
    expected = [] if status is None else [status]
    assert exchange(server.port, request) == expected
    assert exchange(server.port, LIVE, request, LIVE) == [
        200,
        *expected,
        *([] if status else [200]),
    ]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.sampled_from(sorted(ANSWERED)), max_size=6),
    st.sampled_from(sorted(REFUSED)),
    st.lists(st.floats(0, 1), max_size=6),
)
def test_any_sequence_in_any_parts_has_its_responses_in_order(
    server: Running, names: list[str], last: str, cuts: list[float]
) -> None:
    requests = [*(ANSWERED[name] for name in names), REFUSED[last]]
    sent = b"".join(request for request, _ in requests)
    places = sorted({0, *(int(cut * len(sent)) for cut in cuts), len(sent)})
    pieces = [sent[start:end] for start, end in itertools.pairwise(places)]
    expected = [status for _, status in requests if status is not None]
    assert exchange(server.port, *pieces, pause=0.002) == expected


# --- bounds -----------------------------------------------------------------------------------


def test_a_head_of_the_largest_size_is_read(server: Running) -> None:
    start = LIVE[:-2]
    for extra, status in ((0, 200), (1, 431)):
        pad = b"a: %b\r\n" % (b"x" * (MAX_HEAD_BYTES - len(start) - 7 + extra))
        assert exchange(server.port, start + pad + b"\r\n") == [status]
    query = b"?" + b"x" * (MAX_TARGET_BYTES - len("/health/live?"))
    for suffix, status in ((b"", 200), (b"x", 414)):
        assert exchange(server.port, LIVE.replace(b"live", b"live" + query + suffix)) == [status]
    fields = b"a: b\r\n" * (MAX_FIELDS - 1)
    assert exchange(server.port, start + fields + b"\r\n") == [200]


@pytest.mark.parametrize(
    ("begun", "unit", "status"),
    [
        (LIVE[:-2] + b"a: ", b"x" * 1000, 431),
        (LIVE[:-2], b"x" * 1000, 431),
        (LIVE[:-2], b"a: b\r\n" * 50, 431),
        (b"GET /", b"x" * 1000, 414),
        (b"", b"\r\n" * 500, 431),
        (chunked(b"", 1)[:-5] + b"1;", b"x" * 1000, 431),
        (chunked(b"", 1)[:-5] + b"0\r\na: ", b"x" * 1000, 431),
        (chunked(b"", 1)[:-5] + b"0\r\n", b"a: b\r\n" * 50, 431),
        (chunked(b"", 1)[:-5], (b"1;%b\r\nx\r\n" % (b"x" * 500)), 431),
    ],
    ids=["value", "name", "headers", "target", "blank lines", "extension", "trailer", "trailers",
         "extensions"],
)  # fmt: skip
def test_what_has_no_end_is_refused_while_it_arrives(
    server: Running, begun: bytes, unit: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(begun)
        for _ in range(2 * MAX_HEAD_BYTES // len(unit)):
            client.sendall(unit)
        assert statuses_of(client) == [status]


def test_small_chunks_are_no_attack(server: Running) -> None:
    body = b"x" * (MAX_HEAD_BYTES // 2)
    assert exchange(server.port, chunked(body, 1)) == [415]
