"""Responses and failures, within the windows of the client's flow control."""

from __future__ import annotations

from hpack import HeaderTuple, NeverIndexedHeaderTuple

from serving.grpc.calls import Failure
from serving.grpc.http2.library import Http2
from serving.grpc.http2.requests import CONTENT_TYPE, NOT_GRPC
from serving.grpc.http2.streams import PREFIX, Stream

OK_HEADERS = (HeaderTuple(b":status", b"200"), HeaderTuple(b"content-type", CONTENT_TYPE))
OK_TRAILERS = (HeaderTuple(b"grpc-status", b"0"),)
NOT_GRPC_HEADERS = (HeaderTuple(b":status", b"%d" % NOT_GRPC),)
MAX_TEXT = 1024  # characters of an error
PLAIN = bytes(each for each in range(0x20, 0x7F) if each != 0x25)  # not percent-encoded in a text


class Responses:
    """Sends the responses of a connection.

    Args:
        http2: The protocol of the connection.
    """

    def __init__(self, http2: Http2) -> None:
        self._http2 = http2
        self._blocked: dict[int, Stream] = {}

    def respond(self, stream: Stream, message: bytes, now: float) -> bool:
        """Send a message. Return whether all of it is sent, and the stream so ended."""
        http2, number = self._http2, stream.id
        body = b"\0" + len(message).to_bytes(PREFIX - 1) + message
        http2.send_headers(number, OK_HEADERS)
        if self._blocked or len(body) > self._room(number):
            stream.pending, stream.blocked = memoryview(body), now
            self._blocked[number] = stream
            return self._flush(stream)
        http2.send_data(number, body)
        http2.send_headers(number, OK_TRAILERS, end_stream=True)
        return True

    def fail(self, stream: Stream, failure: Failure) -> None:
        """End a stream with a status."""
        text = failure.text[:MAX_TEXT].encode()
        encoded = b"".join(b"%c" % c if c in PLAIN else b"%%%02X" % c for c in text)
        # The headers went before, if a part of the message waits. A client can ask for a table of
        # any size, so that no text is kept in it.
        headers = [*(OK_HEADERS if stream.pending is None else ())]
        headers.append(HeaderTuple(b"grpc-status", b"%d" % failure.status))
        fields = [(b"grpc-message", encoded), *failure.trailers]
        headers += [NeverIndexedHeaderTuple(*each) for each in fields]
        self._http2.send_headers(stream.id, headers, end_stream=True)

    def refuse_other(self, number: int) -> None:
        """End a stream that is no call of gRPC."""
        self._http2.send_headers(number, NOT_GRPC_HEADERS, end_stream=True)

    def forget(self, stream: Stream) -> None:
        """Send no more of a response."""
        self._blocked.pop(stream.id, None)

    def flush(self) -> list[Stream]:
        """Send what fits into the windows. Return the streams that ended so."""
        return [stream for stream in [*self._blocked.values()] if self._flush(stream)]

    def _room(self, number: int) -> int:
        """Return the most bytes of a frame of a stream now."""
        window = self._http2.local_flow_control_window(number)
        return min(window, self._http2.max_outbound_frame_size)

    def _flush(self, stream: Stream) -> bool:
        rest = stream.pending
        assert rest is not None
        while rest and (size := self._room(stream.id)) > 0:
            self._http2.send_data(stream.id, bytes(rest[:size]))
            rest = rest[size:]
        stream.pending = rest
        if rest:
            return False
        del self._blocked[stream.id]
        self._http2.send_headers(stream.id, OK_TRAILERS, end_stream=True)
        return True
