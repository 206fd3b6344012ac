"""Parsing within bounds, one request at a time.

The parser gets what arrived in pieces: a head, then its body, then nothing before the response. A
pipelined request waits as bytes, and reading stops until it is parsed. So a request is counted
before the parser stores it, and a connection holds one request whatever the client sends.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from serving.errors import ServingError
from serving.http.connection.head_reading import HeadReadingProtocol
from serving.http.connection.heads import (
    MAX_HEAD_BYTES,
    check_begun_head,
    error_of,
    head_too_large,
    without_upgrade,
)

HEAD_END = b"\r\n\r\n"  # the parser accepts no other line ends
OVERLAP = len(HEAD_END) - 1  # bytes of a head's end that can be in an earlier piece
CHUNK_BYTES = 24  # room for the size and the line ends of each chunk, without extensions
# A piece of a chunked body. The end of the body is not known, and few pipelined requests fit in.
LEAST_PIECE, MOST_PIECE = 256, 4096


class ReadingProtocol(HeadReadingProtocol):
    """A protocol of uvicorn that bounds what it reads."""

    _waiting = False  # a whole request has no response yet: nothing is parsed

    @property
    def unparsed(self) -> int:
        """Return the number of bytes that arrived and wait to be parsed."""
        return len(self._data) - self._at

    def data_received(self, data: bytes) -> None:
        """Parse data, or keep it until the response to an earlier request."""
        if self._discarding:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        if self._data:
            kept = max(self._at - OVERLAP, 0)
            self._data, self._at = self._data[kept:] + data, self._at - kept
        else:
            self._data = data
        self._parse()

    def on_chunk_header(self) -> None:
        """Allow for the size of a chunk."""
        self._room += CHUNK_BYTES

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._body_left > 0:
            self._body_left -= len(body)
        else:
            self._room += len(body)
        self._pass_body(body)

    def on_message_complete(self) -> None:
        """End the body of a request. Parse no other before the response."""
        if not self.parser.should_upgrade():
            self._in_body, self._room = False, MAX_HEAD_BYTES
            self._waiting = not self._idle
            if not self.parser.should_keep_alive():  # also by a trailer
                self._end_after_response()
            super().on_message_complete()
            if not self.pipeline:
                self.flow.resume_reading()  # else a disconnect after a large body is not noticed

    def on_response_complete(self) -> None:
        """Continue with what arrived in the meantime."""
        if self._lingering:
            self.server_state.total_requests += 1
            return
        starts = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._ended:
            self._limit_half_closed()
        self._after_response(starts=starts)

    def _after_response(self, *, starts: bool) -> None:
        """Continue, refuse or close. `starts`: another request that is parsed starts now."""
        if starts or self._at < len(self._data):
            self._pipelined += 1
        else:
            self._pipelined = 0
        if starts and not self._in_body:
            return
        if self._at < len(self._data):
            self.loop.call_soon(self._continue)  # in a turn of its own, for other connections
        elif starts:
            self._waiting = False
        elif self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self._ended:
            self.transport.close()
        else:
            self._waiting = False

    def _end_after_response(self) -> None:
        """Close after the latest response. The parser takes nothing after this request."""
        if self._idle:
            self._linger()
        else:
            self.cycle.keep_alive = False

    def _pass_body(self, body: bytes) -> None:
        super().on_body(body)

    def _continue(self) -> None:
        """Parse what arrived before a response. Can be called more often than needed."""
        if self._discarding or self.transport.is_closing() or not (self._in_body or self._idle):
            return
        self._waiting = False
        self._unset_keepalive_if_required()
        self._flow.full = False
        self.flow.resume_reading()
        self._parse()
        if self._ended and self._at == len(self._data) and not self._waiting:
            self.transport.close()  # the rest of the request cannot arrive

    def _parse(self) -> None:
        """Parse what arrived, up to the end of a request that needs its response first."""
        try:
            while self._at < len(self._data):
                if self._waiting or self._discarding:
                    self._pause()
                    return
                if self._in_body:
                    self._feed_body()
                else:
                    self._feed_head()
        except ServingError as error:
            self._refuse(error)
        except HttpParserError as error:
            self._refuse(error_of(error))
        if self._in_body or self._room == MAX_HEAD_BYTES:
            self._data, self._at = b"", 0
        else:
            self._data = self._data[-OVERLAP:]
            self._at = len(self._data)

    def _pause(self) -> None:
        """Read no more until `_continue`."""
        if not self.transport.is_closing():
            self._flow.full = True
            self.flow.pause_reading()

    def _feed_head(self) -> None:
        """Parse a head, or the part of it that arrived.

        Raises:
            ServingError: A limit is exceeded.
            HttpParserError: The piece is not of an HTTP request.
        """
        data, at = self._data, self._at
        stop = at + self._room
        end = data.find(HEAD_END, at - OVERLAP if at > OVERLAP else 0) + len(HEAD_END)
        if OVERLAP < end < stop:
            stop = end
        piece = data[at:stop]
        self._room -= len(piece)
        self._begun = False
        self._feed(piece)
        if self._begun and not self._in_body and self._room < MAX_HEAD_BYTES:
            check_begun_head(piece)

    def _feed_body(self) -> None:
        """Parse a body, or the part of it that arrived. Raise as `_feed_head`."""
        data, at = self._data, self._at
        if self._body_left > 0:
            self._feed(data[at : at + self._body_left])
            return
        end = data.find(HEAD_END, at + LEAST_PIECE, at + MOST_PIECE)
        piece = data[at : at + MOST_PIECE if end < 0 else end + len(HEAD_END)]
        self._room -= len(piece)
        self._feed(piece)

    def _feed(self, piece: bytes) -> None:
        self._at += len(piece)
        self._head_ended = piece.endswith(HEAD_END)
        upgraded = None
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            upgraded = upgrade
        if upgraded is not None:  # not within `except`, which would become an error's context
            self._at -= len(piece) - upgraded.args[0]
            self._ignore_upgrade()
        elif self._room <= 0:
            raise head_too_large()

    def _ignore_upgrade(self) -> None:
        """Parse the latest head again, without its offer of another protocol."""
        old = self.parser
        head = without_upgrade(old.get_method(), self.url, old.get_http_version(), self.headers)
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(head)
