"""A connection of a client of gRPC: what each event of h2 does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import DenialOfServiceError

from serving.grpc.http2.answering import CallAnswerer, Shared
from serving.grpc.http2.requests import NotGrpcError, head_of
from serving.grpc.http2.streams import Stream

MAX_SETTINGS = 64  # of a client. The protocol has ten


class Connection(CallAnswerer):
    """A connection.

    Args:
        shared: The parts that it shares with others.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._actions: dict[type[Event], Callable[[Any], None]] = {
            RequestReceived: self._take_request,
            DataReceived: self._take_data,
            TrailersReceived: self._take_trailers,
            StreamReset: self._take_reset,
            WindowUpdated: self._flush,
            RemoteSettingsChanged: self._take_settings,
        }

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            action = self._actions.get(type(event))
            if action is not None:
                action(event)

    def _take_goaway(self) -> None:
        self._leaving = True
        self._close_if_left()

    def _take_request(self, event: RequestReceived) -> None:
        """Begin a call."""
        number, ended = event.stream_id, event.stream_ended is not None
        if self._leaving or len(self._streams) >= self._bounds.calls:
            self._http2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            self._charge()
            return
        try:
            head = head_of(event.headers)
        except NotGrpcError:
            self._responses.refuse_other(number)
            if not ended:
                self._http2.reset_stream(number, ErrorCodes.NO_ERROR)
            self._charge()
            return
        stream = self._open(number, head, ended=ended)
        if stream is not None and ended:
            self._start(stream)

    def _take_data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.ended = event.stream_ended is not None
            self._add(stream, event.data)
        if size := event.flow_controlled_length:
            self._http2.acknowledge_received_data(size, event.stream_id)

    def _add(self, stream: Stream, chunk: bytes) -> None:
        """Add a part to the message of a call, and start to answer at its end."""
        try:
            if not stream.ended:
                self._shared.held.add(len(chunk))
                stream.held += len(chunk)
            stream.add(chunk, self._bounds.message_bytes)
        except Exception as error:  # noqa: BLE001 (becomes the status)
            self._fail(stream, error)
            return
        if stream.ended:
            self._start(stream)

    def _take_trailers(self, event: TrailersReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.ended = True
            self._start(stream)

    def _take_reset(self, event: StreamReset) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            self._close(stream)
        if not event.remote_reset:  # h2 reset it, because of a wrong frame
            self._charge()

    def _take_settings(self, _: RemoteSettingsChanged) -> None:
        if len(self._http2.remote_settings) > MAX_SETTINGS:  # h2 keeps unknown ones too
            raise DenialOfServiceError(f"more than {MAX_SETTINGS} settings")
        self._flush()

    def _flush(self, _: WindowUpdated | None = None) -> None:
        for stream in self._responses.flush():
            self._close(stream)
