"""The records that the methods and the HTTP/2 connections share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

Metadata = Sequence[tuple[bytes, bytes]]  # names in lower case
Message = bytes | memoryview
Respond = Callable[[bytes | Exception], None]  # with the message of the response, or an error


class Status(IntEnum):
    """The statuses of gRPC that calls end with here."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class CallError(Exception):
    """A call ends with this status and text. It is an error of gRPC, not one of the server."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class Call(NamedTuple):
    """A call, without its message.

    Attributes:
        path: Path of the method.
        metadata: Its metadata.
        seconds: Time from `arrived` to its deadline. `None`: it has no deadline.
        arrived: Time of arrival, by `time.perf_counter`.
    """

    path: bytes
    metadata: Metadata
    seconds: float | None
    arrived: float


class Failure(NamedTuple):
    """The end of a call without a response.

    Attributes:
        status: Its status.
        text: Its text.
        trailers: Further metadata.
    """

    status: Status
    text: str
    trailers: Metadata = ()


class Methods(Protocol):
    """The methods of a service, for its connections."""

    def open(self, call: Call) -> None:
        """Check a call before its message arrives.

        Raises:
            CallError, ServingError: The call is refused.
        """

    def start(self, call: Call, message: Message, respond: Respond) -> asyncio.Future[Any] | None:
        """Start to answer a call that was opened.

        `respond` is called once, now or later, unless this raises or the future is cancelled.

        Raises:
            Exception: As `open` raises, or another one, which is logged.
        """

    def failure(self, error: Exception) -> Failure:
        """Count an error, and return the end of a call because of it."""


def respond_later(answer: Coroutine[Any, Any, bytes], respond: Respond) -> asyncio.Task[bytes]:
    """Run a coroutine as a task, and respond with its result or its error."""

    def finish(task: asyncio.Task[bytes]) -> None:
        if not task.cancelled():
            error = task.exception()
            assert error is None or isinstance(error, Exception)
            respond(task.result() if error is None else error)

    task = asyncio.get_running_loop().create_task(answer)
    task.add_done_callback(finish)
    return task
