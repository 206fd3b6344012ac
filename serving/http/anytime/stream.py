"""A response of server-sent events for one call of `/classify`.

The response starts with the first event. A request that fails before it gets a problem with its
own status, as any other. The number of events is bounded: one for each exit of each image.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.engine.engine import Engine
from serving.engine.opinion import Opinion
from serving.engine.request import Answer, Request, Run
from serving.http.anytime.events import EVENTS, Event, ExitFormatter, event
from serving.http.problems import SAFETY_HEADERS
from serving.http.query import ParsedQuery

# Most time for the client to take an event. Its body counts as held meanwhile (`max_held_bytes`).
WRITE_SECONDS = 10.0
HEADERS = [
    (b"content-type", EVENTS.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the events back
    *SAFETY_HEADERS,
]


class ReportedOpinions(list[Opinion | None]):
    """The opinions of a request. The event loop is called with each that a stage thread appends.

    A list of its own kind, so that requests without a stream cost nothing more.
    """

    def __init__(self, report: partial[None]) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._report = report

    def append(self, opinion: Opinion | None) -> None:
        """Append an opinion and report it, unless the network failed on this image."""
        super().append(opinion)
        if opinion is not None and math.isfinite(opinion.confidence):
            with suppress(RuntimeError):  # the loop is closed, and no client is left
                self._loop.call_soon_threadsafe(self._report, len(self), opinion)


class EventStream:
    """A response of events.

    Args:
        send: As ASGI gives it.
        formatter: Formats the answers of exits.
    """

    def __init__(self, send: Send, formatter: ExitFormatter) -> None:
        self._send = send
        self._formatter = formatter
        self._started = False
        self._requests: Sequence[Request] = ()
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def classify(
        self,
        engine: Engine,
        slots: list[int],
        images: Sequence[NDArray[np.uint8]],
        parsed: ParsedQuery,
        arrived: float,
        runs: Sequence[list[Run]] = (),
    ) -> list[Answer]:
        """Send the answer of each exit when it is known. Arguments and errors as `Engine.submit`.

        If it is cancelled, the call is given up.

        Raises:
            ClientDisconnect: The client does not read.
        """
        reports = [
            ReportedOpinions(partial(self._report, parsed, arrived, number))
            for number in range(len(images))
        ]
        call = engine.submit(slots, images, parsed.policy, arrived, reports, runs)
        self._requests = call.requests
        call.future.add_done_callback(lambda _: self._events.put_nowait(None))
        try:
            await self._write_events()
            return call.future.result()
        finally:
            engine.close(call)

    async def end(self, kind: Event, data: bytes) -> None:
        """Send the last event. The server closes the connection if the client does not read."""
        with suppress(ClientDisconnect):
            await self._write(event(kind, data), more=False)

    async def fail(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Send a problem: as the response, or as the last event if there are others."""
        if self._started:
            await self.end("problem", bytes(response.body))
        else:
            await response(scope, receive, self._send)

    def _report(
        self, parsed: ParsedQuery, arrived: float, image: int, exit_: int, opinion: Opinion
    ) -> None:
        elapsed = perf_counter() - arrived
        policy = self._requests[image].policy  # audits can have replaced that of the query
        content = self._formatter.format(
            image, exit_, opinion, replace(parsed, policy=policy), elapsed
        )
        self._events.put_nowait(event("exit", content))

    async def _write_events(self) -> None:
        """Write events until the call has ended.

        Raises:
            ClientDisconnect: The client does not read.
        """
        while (content := await self._events.get()) is not None:
            await self._write(content)

    async def _write(self, content: bytes, *, more: bool = True) -> None:
        """Write an event, and the end of the response if it has no more of them.

        Raises:
            ClientDisconnect: The client does not read.
        """
        start = {"type": "http.response.start", "status": 200, "headers": HEADERS}
        body = {"type": "http.response.body", "body": content, "more_body": more}
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                if not self._started:
                    self._started = True
                    await self._send(start)
                await self._send(body)
        except TimeoutError:
            raise ClientDisconnect from None
