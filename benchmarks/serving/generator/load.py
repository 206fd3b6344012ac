"""A load generator that costs little: raw HTTP/1.1 over kept connections.

Requests are put together before the clock starts and answers are read after it stops; between,
a call costs one write and one parse in C. In a closed loop each of C clients sends its next
call when its last is answered. In an open loop calls are sent when they are due, over any idle
connection, a new one, or (all `connections` being busy) the first to become idle.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import uvloop

from benchmarks.serving.generator.connection import HOST, NONE, Connection
from benchmarks.serving.generator.outcomes import (
    DEADLINE,
    DEGRADED,
    HUNG_UP,
    NEVER,
    NO_ANSWER,
    OK,
    WHOLE,
    Outcomes,
    Plan,
)

EARLY = 0.0005  # timers have milliseconds: what is due within half of one is sent
PATIENCE = 60.0  # seconds that an answer may take
_JSON = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Load:
    """How a plan is sent.

    Args:
        port: of the server, on loopback.
        connections: clients of a closed loop, or the most connections of an open one.
        seconds: after which a closed loop sends no more.
        headers: of each request, beside those that all have.
    """

    port: int
    connections: int
    seconds: float = NEVER
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a load, with the generator's own CPU seconds for it."""

    outcomes: Outcomes
    cpu: float
    wall: float


class _Sender:
    """Sends a plan once."""

    def __init__(self, images: Sequence[bytes], plan: Plan, load: Load) -> None:
        self._load, self._closed_loop = load, plan.send is None
        headers = {"Host": HOST, "Content-Type": "image/jpeg", **load.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._heads = [f"POST {path} HTTP/1.1\r\n{lines}".encode() for path in plan.paths]
        self._bodies = [b"Content-Length: %d\r\n\r\n%b" % (len(i), i) for i in images]
        self._plan = plan
        # lists, for single numbers are slow to come by in arrays
        self._path, self._image = plan.path.tolist(), plan.image.tolist()
        self._hang_up = [NEVER] * len(plan) if plan.hang_up is None else plan.hang_up.tolist()
        self._sent, self._done = [np.nan] * len(plan), [np.nan] * len(plan)
        self._status, self._answers = [NO_ANSWER] * len(plan), [b""] * len(plan)
        self._calls = 0  # that were begun
        self._under_way = 0
        self._sending = True
        self._waiting: deque[int] = deque()
        self._idle: list[Connection] = []
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Send all, and wait for the last answer; who waits longer than PATIENCE gets none."""
        self._began = time.perf_counter()
        if self._closed_loop:
            for _ in range(min(self._load.connections, len(self._plan))):
                self._next()
            self._sending = not self._stopped()
        else:
            await self._send_when_due()
            self._sending = False
        seconds = 0.0 if not self._closed_loop else min(self._load.seconds, 3600.0)
        with suppress(TimeoutError):
            if self._under_way:
                await asyncio.wait_for(self._finished.wait(), seconds + PATIENCE)
        for connection in self._idle:
            connection.close()

    def outcomes(self) -> Outcomes:
        """Of all calls that were begun; their answers are read here."""
        calls, plan = slice(self._calls), self._plan
        sent = np.array(self._sent[calls], np.float64)
        read = [_read(*pair) for pair in zip(self._status, self._answers, strict=True)][calls]
        index, exits, flops, probability, cut = np.array(read, np.float64).reshape(-1, 5).T
        return Outcomes(
            path=plan.path[calls],
            image=plan.image[calls],
            due=sent if plan.send is None else np.fmin(plan.send[calls], sent),
            sent=sent,
            done=np.array(self._done[calls], np.float64),
            status=np.array(self._status[calls], np.int64),
            index=index.astype(np.int64),
            exit=exits.astype(np.int64),
            flops=flops.astype(np.int64),
            probability=probability,
            cut=cut.astype(np.int64),
        )

    def _now(self) -> float:
        return time.perf_counter() - self._began

    def _stopped(self) -> bool:
        return self._calls == len(self._plan) or self._now() >= self._load.seconds

    def _next(self) -> None:
        """In a closed loop: a client sends its next call."""
        if self._stopped():
            self._sending = False
        else:
            self._begin()

    async def _send_when_due(self) -> None:
        assert self._plan.send is not None
        for due in self._plan.send.tolist():
            while (wait := due - self._now()) > EARLY:  # noqa: ASYNC110 (for time, not an event)
                await asyncio.sleep(wait)
            self._begin()

    def _begin(self) -> None:
        call = self._calls
        self._calls += 1
        self._under_way += 1
        self._dispatch(call)

    def _dispatch(self, call: int) -> None:
        """Send over an idle connection, a new one, or later."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                self._write(connection, call)
                return
            self._open -= 1
        if self._open < self._load.connections:
            self._open += 1
            task = asyncio.get_running_loop().create_task(self._connect(call))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._waiting.append(call)

    async def _connect(self, call: int) -> None:
        connection = Connection(self._answered)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: connection, HOST, self._load.port)
        except OSError:
            connection.call = call
            self._answered(connection, NO_ANSWER, b"")
        else:
            self._write(connection, call)

    def _write(self, connection: Connection, call: int) -> None:
        connection.call = call
        self._sent[call] = self._now()
        request = self._heads[self._path[call]] + self._bodies[self._image[call]]
        if (after := self._hang_up[call]) == 0:
            request = request[: -len(request) // 4]
        if connection.transport is not None:
            connection.transport.write(request)
        if after == 0:
            self._leave(connection, call)
        elif after < NEVER:
            asyncio.get_running_loop().call_later(after, self._leave, connection, call)

    def _leave(self, connection: Connection, call: int) -> None:
        if connection.call == call:
            self._status[call] = HUNG_UP
            connection.close()

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        """A call is over, and its connection free."""
        call, connection.call = connection.call, NONE
        if call == NONE:
            return  # nobody asked, or the client has left
        if connection.transport is None:
            self._open -= 1
        else:
            self._idle.append(connection)
        if status == NO_ANSWER and connection.used and self._status[call] != HUNG_UP:
            self._dispatch(call)  # the server had closed an idle connection: no fault of the call
            return
        if self._status[call] != HUNG_UP:
            self._status[call], self._answers[call] = status, body
        self._done[call] = self._now()
        self._over()

    def _over(self) -> None:
        self._under_way -= 1
        if self._closed_loop:
            self._next()
        elif self._waiting:
            self._dispatch(self._waiting.popleft())
        if not self._sending and not self._under_way:
            self._finished.set()


def _document(body: bytes) -> dict[str, Any]:
    """The JSON of an answer; where Triton's own comes before the model's, the latter.

    Raises:
        ValueError: it is anything else.
    """
    text = body.decode().strip()
    document, end = _JSON.raw_decode(text)
    if end < len(text) and "outputs" in document:
        document = json.loads(text[end:])
    elif end < len(text):
        raise ValueError(f"an answer of more than one document: {text[:200]}")
    return cast("dict[str, Any]", document)


def _read(status: int, body: bytes) -> tuple[float, ...]:
    """Class, exit, flops, probability and what cut it short, of an answer."""
    if status != OK:
        return -1, -1, -1, np.nan, WHOLE
    answer = _document(body)["answers"][0]
    cut = DEGRADED if answer.get("degraded") else WHOLE
    cut = DEADLINE if answer.get("deadline_hit") else cut
    exit_, flops = answer.get("exit", -1), answer.get("flops", -1)
    return answer["index"], exit_, flops, answer["probability"], cut


def send(images: Sequence[bytes], plan: Plan, load: Load) -> Report:
    """Send a plan from this process, and wait for all answers."""

    async def run() -> tuple[_Sender, float, float]:
        sender, cpu, wall = _Sender(images, plan, load), time.process_time(), time.perf_counter()
        await sender.run()
        return sender, time.process_time() - cpu, time.perf_counter() - wall

    gc.disable()
    try:
        sender, cpu, wall = uvloop.run(run())
    finally:
        gc.enable()
    return Report(sender.outcomes(), cpu, wall)
