"""Load generator with a low cost per request: raw HTTP/1.1 over keep-alive connections.

Requests are encoded before the clock starts, and responses are read after it stops. Meanwhile a
request costs one write and one parse in C. In a closed loop each client sends its next request
after the response to its last. In an open loop a request is sent when it is due, over any idle
connection or a new one. If all `connections` are busy, it takes the first that becomes idle.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import uvloop

from offramp.load.answers import read_answer
from offramp.load.connection import HOST, NONE, Connection
from offramp.load.outcomes import HUNG_UP, NEVER, NO_ANSWER, Outcomes, Plan
from offramp.tasks import start_task

Read = Callable[[int, bytes], tuple[float, ...]]  # of status and body, as `read_answer`
EARLY = 0.0005  # seconds; timers count milliseconds, so a request is sent up to half of one early
PATIENCE = 60.0  # seconds, longest wait for a response


@dataclass(frozen=True, slots=True)
class Load:
    """Parameters of sending a plan.

    Attributes:
        port: Port of the server.
        connections: Clients of a closed loop, or most connections of an open one.
        seconds: Time after which a closed loop sends no more.
        headers: Header fields of each request, on top of the common ones.
        host: Name or address of the server.
        tls: Connect with TLS.
    """

    port: int
    connections: int
    seconds: float = NEVER
    headers: Mapping[str, str] = field(default_factory=dict)
    host: str = HOST
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a load.

    Attributes:
        outcomes: Outcomes of all requests.
        cpu: CPU seconds of the generator.
        wall: Seconds from the first request to the last response.
    """

    outcomes: Outcomes
    cpu: float
    wall: float


class _Sender:
    """Sends one plan, once."""

    def __init__(self, images: Sequence[bytes], plan: Plan, load: Load, read: Read) -> None:
        self._read = read
        self._load, self._closed_loop = load, plan.send is None
        self._header_blocks = _header_blocks(plan, load)
        self._bodies = [b"Content-Length: %d\r\n\r\n%b" % (len(i), i) for i in images]
        self._plan = plan
        # lists, because reading single numbers from arrays is slow
        self._path, self._image = plan.path.tolist(), plan.image.tolist()
        patient = [NEVER] * len(plan)
        self._hang_up_after = patient if plan.hang_up is None else plan.hang_up.tolist()
        self._sent, self._done = [np.nan] * len(plan), [np.nan] * len(plan)
        self._status, self._responses = [NO_ANSWER] * len(plan), [b""] * len(plan)
        self._begun = 0  # requests
        self._in_flight = 0
        self._sending = True
        self._queue: deque[int] = deque()
        self._idle: list[Connection] = []
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Send all requests and wait for their responses, for PATIENCE at most."""
        self._start = time.perf_counter()
        if self._closed_loop:
            for _ in range(min(self._load.connections, len(self._plan))):
                self._next()
            self._sending = not self._stopped()
        else:
            await self._send_when_due()
            self._sending = False
        seconds = 0.0 if not self._closed_loop else min(self._load.seconds, 3600.0)
        with suppress(TimeoutError):
            if self._in_flight:
                await asyncio.wait_for(self._finished.wait(), seconds + PATIENCE)
        for connection in self._idle:
            connection.close()

    def outcomes(self) -> Outcomes:
        """Read the responses of all requests that were begun."""
        begun, plan = slice(self._begun), self._plan
        sent = np.array(self._sent[begun], np.float64)
        read = [self._read(*pair) for pair in zip(self._status, self._responses, strict=True)][
            begun
        ]
        index, exits, flops, probability, ended_by = np.array(read, np.float64).reshape(-1, 5).T
        return Outcomes(
            path=plan.path[begun],
            image=plan.image[begun],
            due=sent if plan.send is None else np.fmin(plan.send[begun], sent),
            sent=sent,
            done=np.array(self._done[begun], np.float64),
            status=np.array(self._status[begun], np.int64),
            index=index.astype(np.int64),
            exit=exits.astype(np.int64),
            flops=flops.astype(np.int64),
            probability=probability,
            ended_by=ended_by.astype(np.int64),
        )

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _stopped(self) -> bool:
        return self._begun == len(self._plan) or self._now() >= self._load.seconds

    def _next(self) -> None:
        """Send the next request of a client, in a closed loop."""
        if self._stopped():
            self._sending = False
        else:
            self._begin()

    async def _send_when_due(self) -> None:
        assert self._plan.send is not None
        for due in self._plan.send.tolist():
            while (early := due - self._now()) > EARLY:  # noqa: ASYNC110  until a time, not an event
                await asyncio.sleep(early)
            self._begin()

    def _begin(self) -> None:
        number = self._begun
        self._begun += 1
        self._in_flight += 1
        self._dispatch(number)

    def _dispatch(self, number: int) -> None:
        """Send over an idle connection or a new one, or put the request into the queue."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None:
                self._write(connection, number)
                return
            self._open -= 1
        if self._open < self._load.connections:
            self._open += 1
            start_task(self._connect(number), self._opening)
        else:
            self._queue.append(number)

    async def _connect(self, number: int) -> None:
        connection = Connection(self._finish)
        try:
            loop = asyncio.get_running_loop()
            where = self._load.host.strip("[]"), self._load.port
            await loop.create_connection(lambda: connection, *where, ssl=self._load.tls or None)
        except OSError:
            connection.request = number
            self._finish(connection, NO_ANSWER, b"")
        else:
            self._write(connection, number)

    def _write(self, connection: Connection, number: int) -> None:
        connection.request = number
        self._sent[number] = self._now()
        request = self._header_blocks[self._path[number]] + self._bodies[self._image[number]]
        if (after := self._hang_up_after[number]) == 0:
            request = request[: -len(request) // 4]
        if connection.transport is not None:
            connection.transport.write(request)
        if after == 0:
            self._hang_up(connection, number)
        elif after < NEVER:
            asyncio.get_running_loop().call_later(after, self._hang_up, connection, number)

    def _hang_up(self, connection: Connection, number: int) -> None:
        if connection.request == number:
            self._status[number] = HUNG_UP
            connection.close()

    def _finish(self, connection: Connection, status: int, body: bytes) -> None:
        """End a request and free its connection."""
        number, connection.request = connection.request, NONE
        if number == NONE:
            return  # a response without a request, or after a hang-up
        if connection.transport is None:
            self._open -= 1
        else:
            self._idle.append(connection)
        if status == NO_ANSWER and connection.used and self._status[number] != HUNG_UP:
            self._dispatch(number)  # the server had closed the idle connection
            return
        if self._status[number] != HUNG_UP:
            self._status[number], self._responses[number] = status, body
        self._done[number] = self._now()
        self._continue()

    def _continue(self) -> None:
        self._in_flight -= 1
        if self._closed_loop:
            self._next()
        elif self._queue:
            self._dispatch(self._queue.popleft())
        if not self._sending and not self._in_flight:
            self._finished.set()


def send(images: Sequence[bytes], plan: Plan, load: Load, read: Read = read_answer) -> Report:
    """Send a plan from this process and wait for all responses, which `read` reads afterwards."""

    async def run() -> tuple[_Sender, float, float]:
        sender = _Sender(images, plan, load, read)
        cpu, wall = time.process_time(), time.perf_counter()
        await sender.run()
        return sender, time.process_time() - cpu, time.perf_counter() - wall

    gc.disable()
    try:
        sender, cpu, wall = uvloop.run(run())
    finally:
        gc.enable()
    return Report(sender.outcomes(), cpu, wall)


def _header_blocks(plan: Plan, load: Load) -> list[bytes]:
    """Return the head of a request to each path, but for the length of its body."""
    headers = {"Host": f"{load.host}:{load.port}", "Content-Type": "image/jpeg", **load.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return [f"POST {path} HTTP/1.1\r\n{lines}".encode() for path in plan.paths]
