"""The cancellation of a task when the client of its request disconnects."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from serving.http.connection.interface import Disconnect


class CancelOnDisconnect:
    """A context that cancels the current task when the client disconnects.

    Enter it after the whole body has been read. From then on a server's next message is a
    disconnect, or the end of the response. The listener for it is never cancelled, because that
    would cost more. With this package's `Connection` no listener is needed.

    Args:
        receive: As ASGI gives it.
        disconnect: Of the connection, if it is a `Connection`.

    Raises:
        ClientDisconnect: Instead of the cancellation.
    """

    def __init__(self, receive: Receive, disconnect: Disconnect | None = None) -> None:
        self._receive = receive
        self._disconnect = disconnect
        self._happened = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._disconnect is None:
            self._listen()
        elif self._disconnect.happened:
            raise ClientDisconnect
        else:
            self._disconnect.callback = self._cancel

    def __exit__(self, *_: object) -> None:
        if self._disconnect is None:
            self._listener.remove_done_callback(self._received)
        else:
            self._disconnect.callback = None
        if self._happened:
            raise ClientDisconnect

    def _cancel(self) -> None:
        self._happened = True
        assert self._task is not None
        self._task.cancel()

    def _listen(self) -> None:
        self._listener = asyncio.ensure_future(self._receive())
        self._listener.add_done_callback(self._received)

    def _received(self, listener: asyncio.Future[Message]) -> None:
        if listener.cancelled():
            return
        if listener.result()["type"] == "http.disconnect":
            self._cancel()
        else:
            self._listen()
