"""The endpoint as an ASGI app, without a server."""

import asyncio
from typing import Never

import orjson
import pytest
from starlette.requests import ClientDisconnect

from serving.http.app import create_app
from serving.http.classify import HangUp
from serving.http.connection import Disconnect
from serving.http.schemas import Classification
from serving.settings import Settings


class Connection:
    """One call, as a server that keeps to ASGI hands it on."""

    def __init__(self, *chunks) -> None:
        last = len(chunks) - 1
        self.messages = asyncio.Queue()
        for i, chunk in enumerate(chunks):
            self.messages.put_nowait({"type": "http.request", "body": chunk, "more_body": i < last})
        self.sent = []

    async def receive(self):
        return await self.messages.get()

    async def send(self, message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.hang_up()

    def hang_up(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


def scope(path="/classify", root="", query=b""):
    return {
        "type": "http",
        "method": "POST",
        "path": root + path,
        "root_path": root,
        "query_string": query,
        "headers": [(b"content-type", b"image/png")],
    }


@pytest.fixture(scope="module")
def app(bundle):
    return create_app(Settings(bundle=bundle, threads=1, slots=16))


@pytest.fixture(scope="module")
def file(images, encode):
    return encode(images(1, 0)[0])


@pytest.mark.parametrize("root", ["", "/behind/a/proxy"])
def test_an_answer_in_two_messages(app, file, root) -> None:
    async def call():
        connection = Connection(file[:100], file[100:])
        await app(scope(root=root, query=b"top_k=2"), connection.receive, connection.send)
        return connection.sent

    start, body = asyncio.run(call())
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])
    answer = Classification.model_validate_json(body["body"])
    assert len(answer.answers[0].top_k) == 2
    assert orjson.loads(body["body"])["model"] == {"name": "testnet", "version": "1"}


def test_who_is_gone_is_not_answered(app, file) -> None:
    async def call():
        connection = Connection(file)
        connection.hang_up()
        await app(scope(), connection.receive, connection.send)
        return connection.sent

    assert asyncio.run(call()) == []
    assert app.state.service.engine.pool.free == 16


def test_a_cancelled_call_stays_cancelled(app, file) -> None:
    async def call() -> None:
        connection = Connection(file)
        task = asyncio.ensure_future(app(scope(), connection.receive, connection.send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.sent == []
        connection.hang_up()
        await asyncio.sleep(0)

    asyncio.run(call())
    assert app.state.service.bodies.held == 0


def test_a_hang_up_ends_what_it_guards() -> None:
    async def guarded(connection) -> None:
        with HangUp(connection.receive):
            asyncio.get_running_loop().call_later(0.01, connection.hang_up)
            await asyncio.sleep(30)

    async def run() -> None:
        connection = Connection()
        connection.messages.put_nowait({"type": "http.request", "body": b""})  # and it listens on
        with pytest.raises(ClientDisconnect):
            await guarded(connection)

    asyncio.run(run())


def test_a_hang_up_afterwards_ends_nothing() -> None:
    async def run() -> None:
        connection = Connection()
        with HangUp(connection.receive):
            await asyncio.sleep(0)
        connection.hang_up()
        await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_line_that_is_lost_ends_what_it_guards() -> None:
    async def guarded(line) -> None:
        with HangUp(Connection().receive, line):
            asyncio.get_running_loop().call_later(0.01, line.call)
            await asyncio.sleep(30)

    async def run() -> None:
        line = Disconnect()
        with pytest.raises(ClientDisconnect):
            await guarded(line)
        assert line.call is None

    asyncio.run(run())


def test_a_line_that_was_lost_before_lets_nobody_in() -> None:
    async def run() -> Never:
        with pytest.raises(ClientDisconnect), HangUp(Connection().receive, Disconnect(lost=True)):
            raise AssertionError

    asyncio.run(run())


def test_a_line_that_is_lost_afterwards_ends_nothing() -> None:
    async def run() -> None:
        line = Disconnect()
        with HangUp(Connection().receive, line):
            await asyncio.sleep(0)
        assert line.call is None

    asyncio.run(run())
