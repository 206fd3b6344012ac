"""Checks of a head, as functions."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ContentEncodingError, HttpVersionError, MalformedRequestError
from serving.http.connection.heads import (
    SHOWN,
    check_begun_head,
    check_encoding,
    check_head,
    error_of,
    with_path,
    without_upgrade,
)


@pytest.mark.parametrize(
    "host",
    [
        "x",
        "x:80",
        "a.example:8000",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:80",
        "my_host",
        "a%20b",
        "",
        "x:",
    ],
)
def test_a_valid_host_is_accepted(host: str) -> None:
    check_head(b"GET", "1.1", [host.encode() + b" "], [])


@pytest.mark.parametrize(
    "host",
    ["a b", "a, b", "a,b", "a/b", "http://a", "u@a", "a:b", "a:80:80", "[::1", "::1", "a:123456",
     "a%2", "a\\b", "a?b", "a#b", '"a"', "<a>", "ä"],
)  # fmt: skip
def test_an_invalid_host_is_refused(host: str) -> None:
    for version in ("1.1", "1.0"):
        with pytest.raises(MalformedRequestError, match="is not a host with a port"):
            check_head(b"GET", version, [host.encode("latin-1")], [])


def test_http_1_1_needs_one_host_and_http_1_0_at_most_one() -> None:
    check_head(b"GET", "1.0", [], [])
    for version, hosts in (("1.1", []), ("1.1", [b"a", b"a"]), ("1.0", [b"a", b"a"])):
        with pytest.raises(MalformedRequestError, match="send one"):
            check_head(b"GET", version, hosts, [])


@pytest.mark.parametrize("version", ["0.9", "2.0", "0.0"])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(HttpVersionError, match=version):
        check_head(b"GET", version, [b"a"], [])


@pytest.mark.parametrize(
    ("line", "version"), [(b"GET /\r\n", "0.9"), (b"\r\nGET / HTTP/2.0\r\n", "2.0")]
)
def test_a_version_is_refused_before_the_head_is_complete(line: bytes, version: str) -> None:
    with pytest.raises(HttpVersionError, match=version):
        check_begun_head(line)
    check_begun_head(line[:-2])
    check_begun_head(b"GET / HTTP/1.1\r\nhost: x")


@pytest.mark.parametrize(
    ("version", "coding"), [("1.0", b"chunked"), ("1.1", b"gzip, chunked"), ("1.1", b"identity")]
)
def test_only_chunked_is_read(version: str, coding: bytes) -> None:
    check_head(b"POST", "1.1", [b"a"], [b"Chunked "])
    with pytest.raises(MalformedRequestError, match="chunked"):
        check_head(b"POST", version, [b"a"], [coding])


@pytest.mark.parametrize("value", [b"gzip", b"identity, br", b"\xff", b"x" * 5000])
def test_a_content_encoding_is_named(value: bytes) -> None:
    check_encoding([(b"content-encoding", b"Identity"), (b"content-encoding", b"identity,")])
    with pytest.raises(ContentEncodingError, match="Content-Encoding: ") as raised:
        check_encoding([(b"content-encoding", b"identity"), (b"content-encoding", value)])
    assert value[:SHOWN].decode("latin-1") in str(raised.value) or value == b"\xff"
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("target", "result"),
    [(b"http://h", b"/"), (b"http://h?q=1", b"/?q=1"), (b"http://h/p?q", None), (b"*", None)],
)
def test_a_url_without_a_path_gets_one(target: bytes, result: bytes | None) -> None:
    assert with_path(target) == (result or target)


def test_an_error_of_this_server_in_a_callback_is_not_the_client_s_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = httptools.HttpParserCallbackError("callback error")
    error.__context__ = KeyError("a bug")
    assert error_of(error).status == 500
    assert "callback" in caplog.text


class Heads:
    """A protocol that keeps what the parser gives."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


TOKENS = st.text("abcxyz-", min_size=1, max_size=8).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(str.encode)
OPTIONS = st.lists(st.sampled_from([b"Upgrade", b"keep-alive", b"HTTP2-Settings", b"x"]))


@given(
    st.lists(st.tuples(TOKENS.filter(lambda name: not name.startswith(b"-")), VALUES), max_size=5),
    OPTIONS,
    st.sampled_from([b"h2c", b"websocket", b"TLS/1.0, h2c"]),
)
def test_a_head_is_the_same_without_its_offer_of_a_protocol(
    others: list[tuple[bytes, bytes]], options: list[bytes], protocol: bytes
) -> None:
    offer = [(b"upgrade", protocol), (b"connection", b", ".join([b"Upgrade", *options]))]
    head = without_upgrade(b"POST", b"/a?b=c", "1.1", [*others, *offer])
    found = Heads()
    parser = httptools.HttpRequestParser(found)
    parser.feed_data(head)
    assert not parser.should_upgrade()
    assert (parser.get_method(), found.target, parser.get_http_version()) == (
        b"POST",
        b"/a?b=c",
        "1.1",
    )
    kept = b", ".join(each for each in options if each in (b"keep-alive", b"x"))
    assert found.headers == [*others, *([(b"connection", kept)] if kept else [])]
