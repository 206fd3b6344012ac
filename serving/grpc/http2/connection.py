"""A connection of a client of gRPC: what each frame does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.grpc.http2 import frames as f
from serving.grpc.http2.answering import WINDOW, CallAnswerer, Shared
from serving.grpc.http2.frames import ConnectionFailedError
from serving.grpc.http2.hpack import MAX_LIST_BYTES, Field, HeaderDecoder
from serving.grpc.http2.requests import Head, MalformedError, NotGrpcError, head_of
from serving.grpc.http2.streams import Stream

SMALL_FRAME = 64  # bytes: parts of a message below it are counted
MAX_BLOCK_BYTES = 32 << 10  # of compressed headers, in several frames


class Connection(CallAnswerer):
    """A connection.

    Args:
        shared: The parts that it shares with others.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._decoder = HeaderDecoder()
        self._fields: tuple[Field, ...] = ()  # of the latest call
        self._head: Head | None = None  # of these
        self._opening = 0, 0, 0.0  # stream, flags and begin of headers in several frames
        self._room = WINDOW
        self._seen = 0  # number of the latest stream, also of one that is not answered
        self._takes: dict[int, Callable[[int, int, bytes, int, int], None]] = {
            f.DATA: self._take_data,
            f.HEADERS: self._take_headers,
            f.CONTINUATION: self._take_continuation,
            f.WINDOW_UPDATE: self._take_window,
            f.RST_STREAM: self._take_reset,
            f.SETTINGS: self._take_settings,
            f.PING: self._take_ping,
            f.GOAWAY: self._take_goaway,
            f.PUSH_PROMISE: self._take_push,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our settings."""
        super().connection_made(transport)
        settings = f.settings_frame(
            (f.MAX_CONCURRENT_STREAMS, self._bounds.calls),
            (f.INITIAL_WINDOW_SIZE, WINDOW),
            (f.MAX_HEADER_LIST_SIZE, MAX_LIST_BYTES),
        )
        self._transport.write(settings + f.window_frame(0, WINDOW - f.DEFAULT_WINDOW))

    def _take(self, kind: int, flags: int, stream: int, data: bytes, start: int, end: int) -> None:
        take = self._takes.get(kind)
        if take is None:  # of a priority, or unknown
            self._charge()
        else:
            take(flags, stream, data, start, end)

    def _take_headers(self, flags: int, number: int, data: bytes, start: int, end: int) -> None:
        if number % 2 == 0:
            raise ConnectionFailedError(f.PROTOCOL_ERROR, "headers of a stream of the server")
        start, end = f.unpadded(flags, start, end, data)
        if flags & f.END_HEADERS:
            self._take_block(number, flags, data[start:end])
        else:
            self._block = bytearray(data[start:end])
            self._opening = number, flags, self._loop.time()

    def _take_continuation(
        self, flags: int, number: int, data: bytes, start: int, end: int
    ) -> None:
        assert self._block is not None
        opened, first_flags, _ = self._opening
        if number != opened:
            raise ConnectionFailedError(f.PROTOCOL_ERROR, "headers of several streams")
        self._charge()
        self._block += data[start:end]
        if len(self._block) > MAX_BLOCK_BYTES:
            text = f"the headers have more than {MAX_BLOCK_BYTES} bytes"
            raise ConnectionFailedError(f.ENHANCE_YOUR_CALM, text)
        if flags & f.END_HEADERS:
            block, self._block = bytes(self._block), None
            self._take_block(number, first_flags, block)

    def _take_block(self, number: int, flags: int, block: bytes) -> None:
        """Begin a call, or end its message, by headers that are complete."""
        fields = self._decoder.decode(block)
        ended = bool(flags & f.END_STREAM)
        stream = self._streams.get(number)
        if stream is not None:  # trailers
            if not ended or stream.ended:
                self._reset(number, f.PROTOCOL_ERROR)
            else:
                self._start(stream)
        elif number <= self._seen or self._leaving:
            self._seen = max(self._seen, number)
            self._charge()  # it ended before, or comes after our end
        else:
            self.last = self._seen = number
            stream = self._begin(number, fields)
            if stream is not None and ended:
                self._start(stream)

    def _begin(self, number: int, fields: tuple[Field, ...]) -> Stream | None:
        if len(self._streams) >= self._bounds.calls:
            self._reset(number, f.REFUSED_STREAM)
            return None
        if self._head is None or fields is not self._fields:
            try:
                self._head, self._fields = head_of(fields), fields
            except MalformedError:
                self._reset(number, f.PROTOCOL_ERROR)
                return None
            except NotGrpcError:
                self._responses.refuse_other(number)
                self._reset(number, f.NO_ERROR)
                return None
        return self._open(number, self._head)

    def _take_data(self, flags: int, number: int, data: bytes, start: int, end: int) -> None:
        size, ended = end - start, bool(flags & f.END_STREAM)
        self._room -= size
        if self._room < 0:
            raise ConnectionFailedError(f.FLOW_CONTROL_ERROR, "more data than the window allows")
        if self._room < WINDOW // 2:
            self._transport.write(f.window_frame(0, WINDOW - self._room))
            self._room = WINDOW
        if size < SMALL_FRAME and not ended:
            self._charge()
        stream = self._streams.get(number)
        if stream is None:
            if number > self._seen or number % 2 == 0:
                raise ConnectionFailedError(f.PROTOCOL_ERROR, "data of a stream that is not open")
            return  # it ended before
        if stream.ended:
            self._reset(number, f.STREAM_CLOSED)
            return
        stream.room -= size
        if stream.room < 0:
            self._reset(number, f.FLOW_CONTROL_ERROR)
            return
        start, end = f.unpadded(flags & f.PADDED, start, end, data)
        self._add(stream, data[start:end], ended=ended)

    def _add(self, stream: Stream, chunk: bytes, *, ended: bool) -> None:
        """Add a part to the message of a call, and start to answer at its end."""
        try:
            if not ended:
                self._shared.held.add(len(chunk))
                stream.held += len(chunk)
            stream.add(chunk, self._bounds.message_bytes)
        except Exception as error:  # noqa: BLE001 (becomes the status)
            self._fail(stream, error)
            return
        if ended:
            self._start(stream)
        elif stream.room < WINDOW // 2:
            self._transport.write(f.window_frame(stream.id, WINDOW - stream.room))
            stream.room = WINDOW

    def _take_window(self, _: int, number: int, data: bytes, start: int, end: int) -> None:
        increment = _number(data, start, end) & f.MAX_WINDOW
        stream = self._streams.get(number)
        if increment == 0:
            raise ConnectionFailedError(f.PROTOCOL_ERROR, "a window that does not grow")
        if number == 0:
            self._responses.grow(increment)
        elif stream is not None:
            stream.window += increment
            if stream.window > f.MAX_WINDOW:
                self._reset(number, f.FLOW_CONTROL_ERROR)
                return
        self._charge()
        self._flush()

    def _take_reset(self, _: int, number: int, data: bytes, start: int, end: int) -> None:
        _number(data, start, end)
        if number == 0 or number > self._seen:
            raise ConnectionFailedError(f.PROTOCOL_ERROR, "the end of a stream that never began")
        self._charge()
        if (stream := self._streams.get(number)) is not None:
            self._close(stream)

    def _take_settings(self, flags: int, number: int, data: bytes, start: int, end: int) -> None:
        if number != 0 or (end - start) % f.setting.size or (flags & f.ACK and end > start):
            raise ConnectionFailedError(f.FRAME_SIZE_ERROR, "settings of a wrong size or stream")
        self._charge()
        if flags & f.ACK:
            return
        for name, value in f.setting.iter_unpack(data[start:end]):
            if name == f.INITIAL_WINDOW_SIZE:
                if value > f.MAX_WINDOW:
                    raise ConnectionFailedError(f.FLOW_CONTROL_ERROR, "a window above its bound")
                self._responses.resize(value, [*self._streams.values()])
        self._transport.write(f.frame(f.SETTINGS, f.ACK, 0))
        self._flush()

    def _take_ping(self, flags: int, number: int, data: bytes, start: int, end: int) -> None:
        if number != 0 or end - start != f.PING_BYTES:
            raise ConnectionFailedError(f.FRAME_SIZE_ERROR, "a ping of a wrong size or stream")
        self._charge()
        if not flags & f.ACK:
            self._transport.write(f.frame(f.PING, f.ACK, 0, data[start:end]))

    def _take_goaway(self, *_: object) -> None:
        """Close after the calls that were begun: the client sends no more."""
        self._leaving = True
        self._close_if_left()

    def _take_push(self, *_: object) -> None:
        raise ConnectionFailedError(f.PROTOCOL_ERROR, "a promise of a client")

    def _flush(self) -> None:
        for stream in self._responses.flush():
            self._close(stream)

    def _incomplete_since(self) -> float:
        return super()._incomplete_since() if self._block is None else self._opening[2]


def _number(data: bytes, start: int, end: int) -> int:
    """Return the number that is a whole payload."""
    if end - start != f.number.size:
        raise ConnectionFailedError(f.FRAME_SIZE_ERROR, "a frame of a wrong size")
    found: int = f.number.unpack_from(data, start)[0]
    return found
