"""The calls of a connection: their beginning, their answers, deadlines and other ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame

from serving.errors import BodyTimeoutError
from serving.grpc.calls import Call, CallError, Methods, Status
from serving.grpc.http2.library import Http2
from serving.grpc.http2.reading import CREDIT_OF_ANSWER, MAX_CREDIT, FrameReader
from serving.grpc.http2.requests import Head
from serving.grpc.http2.streams import Held, Stream
from serving.grpc.http2.writing import Responses

HEAD_SECONDS = 75.0  # for a frame, and for headers in several frames
IDLE_SECONDS = 300.0  # without a call
SEND_SECONDS = 30.0  # for the client to take a response
CHECKS = 4  # of the times of messages, in the time that a message has
MAX_CHECK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of connections.

    Attributes:
        message_bytes: Most bytes of a message.
        calls: Most calls under way, of a connection and of all.
        seconds: Longest time from the head of a call to the end of its message.
    """

    message_bytes: int
    calls: int
    seconds: float


@dataclass(slots=True)
class Shared:
    """The parts that all connections of a server share.

    Attributes:
        methods: The methods of calls.
        bounds: Their bounds.
        held: Counts the bytes of messages that arrive.
        connections: All that are open.
        calls: Number of calls under way.
    """

    methods: Methods
    bounds: Bounds
    held: Held
    connections: set[CallAnswerer] = field(default_factory=set)
    calls: int = 0


class CallAnswerer(FrameReader):
    """A connection that answers calls.

    Args:
        shared: The parts that it shares.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(Http2(shared.bounds.calls))
        self._shared, self._methods, self._bounds = shared, shared.methods, shared.bounds
        self._streams: dict[int, Stream] = {}
        self._responses = Responses(self._http2)
        self._active = self._loop.time()  # when there was a call
        self._leaving = False
        self._check_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to check times."""
        super().connection_made(transport)
        self._shared.connections.add(self)
        self._check_later()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Cancel all calls."""
        self._closed = True
        self._shared.connections.discard(self)
        if self._check_timer is not None:
            self._check_timer.cancel()
        self._close_all()

    def leave(self) -> None:
        """Take no more calls, and close after those that were begun."""
        if not (self._leaving or self._closed):
            self._leaving = True
            # h2 would answer no more after a GOAWAY of its own.
            last = self._http2.highest_inbound_stream_id
            self._transport.write(GoAwayFrame(0, last, ErrorCodes.NO_ERROR).serialize())
        self._close_if_left()

    def abort(self) -> None:
        """Close at once."""
        self._closed = True
        self._transport.abort()

    def _open(self, number: int, head: Head, *, ended: bool) -> Stream | None:
        """Begin a call. Return `None` if it is refused."""
        call = Call(head.path, head.metadata, head.seconds, perf_counter())
        now = self._active = self._loop.time()
        stream = Stream(number, call, now, ended)
        self._streams[number] = stream
        self._shared.calls += 1
        self._calls += 1
        try:
            if head.error is not None:
                raise head.error
            if self._shared.calls > self._bounds.calls:
                raise CallError(Status.RESOURCE_EXHAUSTED, "too many calls; try again in a moment")
            self._methods.open(call)
        except Exception as error:  # noqa: BLE001 (becomes the status)
            self._charge()
            self._fail(stream, error)
            return None
        if call.seconds is not None:
            stream.timer = self._loop.call_later(call.seconds, self._expire, stream)
        return stream

    def _start(self, stream: Stream) -> None:
        """Start to answer a call whose message is complete."""
        if stream.held:
            self._shared.held.release(stream.held)
            stream.held = 0
        try:
            message, respond = stream.message(), partial(self._respond, stream)
            stream.future = self._methods.start(stream.call, message, respond)
        except Exception as error:  # noqa: BLE001 (becomes the status)
            self._fail(stream, error)

    def _respond(self, stream: Stream, result: bytes | Exception) -> None:
        if self._streams.get(stream.id) is not stream:
            return  # it ended
        stream.future = None
        if isinstance(result, Exception):
            self._fail(stream, result)
            return
        self._credit = min(self._credit + CREDIT_OF_ANSWER, MAX_CREDIT)
        ended = self._responses.respond(stream, result, self._loop.time())
        self._write()
        if ended:
            self._close(stream)

    def _fail(self, stream: Stream, error: Exception) -> None:
        """End a call with the status of an error."""
        self._responses.fail(stream, self._methods.failure(error))
        if not stream.ended:
            self._http2.reset_stream(stream.id, ErrorCodes.NO_ERROR)  # send no more of it
        self._write()
        self._close(stream)

    def _expire(self, stream: Stream) -> None:
        self._fail(stream, CallError(Status.DEADLINE_EXCEEDED, "the deadline of the call passed"))

    def _close(self, stream: Stream) -> None:
        """Forget a stream that ended, and cancel what answers it."""
        del self._streams[stream.id]
        self._shared.calls -= 1
        if stream.held:
            self._shared.held.release(stream.held)
            stream.held = 0
        self._responses.forget(stream)
        stream.close()
        self._close_if_left()

    def _close_all(self) -> None:
        for stream in [*self._streams.values()]:
            self._close(stream)

    def _end(self, code: ErrorCodes | int, text: str = "") -> None:
        super()._end(code, text)
        self._close_all()  # h2 sends no more

    def _close_if_left(self) -> None:
        if self._leaving and not (self._streams or self._closed):
            self._closed = True
            self._write()
            self._transport.close()

    def _check_later(self) -> None:
        seconds = min(self._bounds.seconds / CHECKS, MAX_CHECK_SECONDS)
        self._check_timer = self._loop.call_later(seconds, self._check)

    def _check(self) -> None:
        """End what takes too long: frames, calls, a client that does not read, an idle one."""
        now = self._loop.time()
        self._check_later()
        self._check_streams(now)
        if self._closed:
            self._transport.abort()  # the client does not read the end
            return
        if self._writing_paused and now - self._writing_paused > SEND_SECONDS:
            self.abort()
        elif now - self._incomplete_since() > HEAD_SECONDS:
            self._end(ErrorCodes.ENHANCE_YOUR_CALM, "a frame or headers took too long to arrive")
        elif self._streams:
            self._active = now
        elif now - self._active > IDLE_SECONDS:
            self.leave()

    def _check_streams(self, now: float) -> None:
        """End calls whose message, or whose client's window, takes too long."""
        for stream in [*self._streams.values()]:
            if not stream.ended and now - stream.started > self._bounds.seconds:
                text = f"the message took more than {self._bounds.seconds:g} s to arrive"
                self._fail(stream, BodyTimeoutError(f"{text}; send smaller images"))
            elif stream.pending and now - stream.blocked > SEND_SECONDS:
                self._http2.reset_stream(stream.id, ErrorCodes.CANCEL)
                self._write()
                self._close(stream)
