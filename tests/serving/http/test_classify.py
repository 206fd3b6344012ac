"""The endpoint as an ASGI app, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope

from serving.http.app import create_app
from serving.http.connection import CancelOnDisconnect, Disconnect
from serving.http.schemas import Classification
from serving.settings import Settings
from tests.serving.small_bundle import png, random_images


class Client:
    """The client of one call, behind a server that conforms to ASGI."""

    def __init__(self, *chunks: bytes) -> None:
        last = len(chunks) - 1
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        for i, chunk in enumerate(chunks):
            self.messages.put_nowait({"type": "http.request", "body": chunk, "more_body": i < last})
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return await self.messages.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.disconnect()

    def disconnect(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


async def released(app: FastAPI) -> None:
    """Wait until no body is held: a decoding that has begun holds its bytes to its end."""
    async with asyncio.timeout(20):
        while app.state.context.body_reader.held:  # noqa: ASYNC110 (a thread ends it)
            await asyncio.sleep(0.001)


def scope(path: str = "/classify", root: str = "", query: bytes = b"") -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": root + path,
        "root_path": root,
        "query_string": query,
        "headers": [(b"content-type", b"image/png")],
    }


@pytest.fixture(scope="module")
def app(bundle: Path) -> FastAPI:
    return create_app(Settings(bundle=bundle, threads=1, slots=16))


@pytest.fixture(scope="module")
def file() -> bytes:
    return png(random_images(1, 0)[0])


@pytest.mark.parametrize("root", ["", "/behind/a/proxy"])
def test_an_answer_is_two_messages(app: FastAPI, file: bytes, root: str) -> None:
    async def call() -> list[Message]:
        client = Client(file[:100], file[100:])
        await app(scope(root=root, query=b"top_k=2"), client.receive, client.send)
        return client.sent

    start, body = asyncio.run(call())
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])
    answer = Classification.model_validate_json(body["body"])
    assert len(answer.answers[0].top_k) == 2
    assert orjson.loads(body["body"])["model"] == {"name": "testnet", "version": "1"}


def test_a_client_that_disconnected_gets_no_answer(app: FastAPI, file: bytes) -> None:
    async def call() -> list[Message]:
        client = Client(file)
        client.disconnect()
        await app(scope(), client.receive, client.send)
        await released(app)
        return client.sent

    assert asyncio.run(call()) == []
    assert app.state.context.engine.pool.free == 16


def test_a_cancelled_call_stays_cancelled(app: FastAPI, file: bytes) -> None:
    async def call() -> None:
        client = Client(file)
        task = asyncio.ensure_future(app(scope(), client.receive, client.send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.sent == []
        client.disconnect()
        await asyncio.sleep(0)
        await released(app)

    asyncio.run(call())
    assert app.state.context.body_reader.held == 0


def test_a_disconnect_cancels_the_task() -> None:
    async def guarded(client: Client) -> None:
        with CancelOnDisconnect(client.receive):
            asyncio.get_running_loop().call_later(0.01, client.disconnect)
            await asyncio.sleep(30)

    async def run() -> None:
        client = Client()
        client.messages.put_nowait(
            {"type": "http.request", "body": b""}
        )  # does not end the listening
        with pytest.raises(ClientDisconnect):
            await guarded(client)

    asyncio.run(run())


def test_a_later_disconnect_cancels_nothing() -> None:
    async def run() -> None:
        client = Client()
        with CancelOnDisconnect(client.receive):
            await asyncio.sleep(0)
        client.disconnect()
        await asyncio.sleep(0.01)

    asyncio.run(run())


def called(disconnect: Disconnect) -> None:
    assert disconnect.callback is not None
    disconnect.callback()


def test_the_callback_of_a_connection_cancels_the_task() -> None:
    async def guarded(disconnect: Disconnect) -> None:
        with CancelOnDisconnect(Client().receive, disconnect):
            asyncio.get_running_loop().call_later(0.01, called, disconnect)
            await asyncio.sleep(30)

    async def run() -> None:
        disconnect = Disconnect()
        with pytest.raises(ClientDisconnect):
            await guarded(disconnect)
        assert disconnect.callback is None

    asyncio.run(run())


def test_an_earlier_disconnect_prevents_the_task() -> None:
    async def run() -> None:
        with (
            pytest.raises(ClientDisconnect),
            CancelOnDisconnect(Client().receive, Disconnect(happened=True)),
        ):
            pytest.fail("the context was entered")

    asyncio.run(run())


def test_the_callback_of_a_connection_is_removed_at_the_end() -> None:
    async def run() -> None:
        disconnect = Disconnect()
        with CancelOnDisconnect(Client().receive, disconnect):
            await asyncio.sleep(0)
        assert disconnect.callback is None

    asyncio.run(run())
