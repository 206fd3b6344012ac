"""Connections that a server closes between two requests, or instead of an answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from offramp import AsyncClient, Client, OfframpError, TransportError
from offramp.errors import UsageError
from serving.errors import EmptyBodyError
from tests.offramp.pictures import files

BODY = b'{"type": "/problems/empty-body", "title": "", "status": 400, "detail": "no"}'
ANSWER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CUT_OFF = ANSWER[:-9]
Ask = Callable[[str, int], list[type[OfframpError]]]


@contextmanager
def closing_server(
    *connections: list[bytes], unread: bool = False
) -> Iterator[tuple[str, list[int]]]:
    """A server that sends these bytes to the requests of each connection, and then closes it.

    It reads a request before it sends, or only the first byte of one that it sends nothing to.
    Yields its URL, and the number of the connection of each request.
    """
    seen: list[int] = []

    def serve() -> None:
        for number, answers in enumerate(connections):
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                for answer in answers:
                    first = connection.recv(1, socket.MSG_PEEK)
                    if not first:
                        break
                    seen.append(number)
                    if not (unread and not answer):
                        lines = iter(file.readline, b"\r\n")
                        fields = dict(
                            line.lower().split(b": ", 1) for line in lines if b": " in line
                        )
                        file.read(int(fields[b"content-length"]))
                        connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", seen
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def ask(url: str, times: int) -> list[type[OfframpError]]:
    """Return the errors of requests, one after the other."""
    errors = []
    with Client(url) as client:
        for _ in range(times):
            with pytest.raises(OfframpError) as raised:
                client.classify(files(1))
            errors.append(type(raised.value))
    return errors


def ask_async(url: str, times: int) -> list[type[OfframpError]]:
    async def errors() -> list[type[OfframpError]]:
        found = []
        async with AsyncClient(url) as client:
            for _ in range(times):
                with pytest.raises(OfframpError) as raised:
                    await client.classify(files(1))
                found.append(type(raised.value))
        return found

    return asyncio.run(errors())


both = pytest.mark.parametrize("errors_of", [ask, ask_async])


@both
@pytest.mark.parametrize("unread", [False, True], ids=["end", "reset"])
def test_a_request_over_a_connection_that_was_closed_meanwhile_is_sent_again(
    errors_of: Ask, unread: bool
) -> None:
    with closing_server([ANSWER, b""], [ANSWER], unread=unread) as (url, seen):
        assert errors_of(url, 2) == [EmptyBodyError, EmptyBodyError]
    assert seen == [0, 0, 1]


@both
def test_it_is_sent_again_once(errors_of: Ask) -> None:
    with closing_server([ANSWER, b""], [b""], [ANSWER]) as (url, seen):
        assert errors_of(url, 2) == [EmptyBodyError, TransportError]
    assert seen == [0, 0, 1]


@both
def test_a_new_connection_that_is_closed_is_an_error(errors_of: Ask) -> None:
    with closing_server([b""], [ANSWER]) as (url, seen):
        assert errors_of(url, 1) == [TransportError]
    assert seen == [0]


@both
def test_an_answer_that_is_cut_off_is_an_error(errors_of: Ask) -> None:
    with closing_server([ANSWER, CUT_OFF], [ANSWER]) as (url, seen):
        assert errors_of(url, 2) == [EmptyBodyError, TransportError]
    assert seen == [0, 0]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "ftp://a:1"), ("ALL_PROXY", "http://[::"), ("SSL_CERT_FILE", "/nowhere")],
)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_an_environment_that_cannot_be_used_is_named(
    client: type[Client | AsyncClient], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"check .*{variable}"):
        client("http://127.0.0.1:9")


def test_errors_show_no_password() -> None:
    with closing_server([b""], [ANSWER.replace(BODY[:1], b"<")]) as (url, _):
        for reason in ("did not answer", "not as an Offramp server does"):
            with (
                Client(url.replace("//", "//me:secret@")) as client,
                pytest.raises(TransportError, match=reason) as raised,
            ):
                client.classify(files(1))
            assert f"{url}/classify" in str(raised.value)
