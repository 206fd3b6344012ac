"""Sampling, and what a sampled request collects on its way."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import NamedTuple, Protocol

from serving.engine.request import Answer, Run
from serving.http.tracing.parent import Parent, parent_of

HTTP_ERROR = 500  # statuses from here on are errors of the server
NO_RESPONSE = 0  # status of a request if the client closed the connection before the response
CANCELLED = "cancelled"  # its error
# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
GRPC_ERRORS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
log = logging.getLogger(__name__)


class End(NamedTuple):
    """The end of a request.

    Attributes:
        at: Time after its response, by `time.perf_counter`.
        at_ns: The same time in nanoseconds since 1970.
        attributes: Attributes that depend on the protocol, with the status.
        error: The kind of error if the server failed or no response was sent, else empty.
    """

    at: float
    at_ns: int
    attributes: Mapping[str, str | int]
    error: str


class Recorder(Protocol):
    """Makes spans of traces, and exports them."""

    def record(self, trace: Trace, end: End) -> None:
        """Make the spans of a request that ended."""

    async def close(self) -> None:
        """Export what is recorded, in bounded time."""


@dataclass(slots=True, eq=False)
class Trace:
    """A sampled request. All times are by `time.perf_counter`.

    Attributes:
        recorder: Gets it at its end.
        name: Name of its span: `POST /classify`, or the method of gRPC.
        arrived: Time of arrival.
        parent: The client's span, or `None` if a trace starts here.
        request_id: Id of the request, or empty.
        decode: Begin and end of decoding. `None`: the images were not decoded.
        runs: For each image, the batches that it was part of.
        answers: Answers to the images. Empty without a response to them.
    """

    recorder: Recorder
    name: str
    arrived: float
    parent: Parent | None
    request_id: bytes = b""
    decode: tuple[float, float] | None = None
    runs: list[list[Run]] = field(default_factory=list)
    answers: Sequence[Answer] = ()

    def submit(self, images: int, started: float, decode: float) -> list[list[Run]]:
        """Note that images were decoded. Return a list for the batches of each.

        Args:
            images: Number of images.
            started: Time at which decoding began.
            decode: Seconds that it took.
        """
        self.decode = started, started + decode
        self.runs = [[] for _ in range(images)]
        return self.runs

    def name_request(self, given: str) -> None:
        """Take the id that a message of the inference protocol has, unless a header has one."""
        self.request_id = self.request_id or given.encode()

    def end_http(self, status: int, request_id: bytes) -> None:
        """End a request over HTTP.

        Args:
            status: Status of the response, or `NO_RESPONSE`.
            request_id: Id of the response, or empty.
        """
        self.request_id = request_id or self.request_id
        method, _, route = self.name.partition(" ")
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "url.path": route,
            "url.scheme": "http",
        }
        if status == NO_RESPONSE:
            self._end(attributes, CANCELLED)
            return
        attributes["http.response.status_code"] = status
        self._end(attributes, str(status) if status >= HTTP_ERROR else "")

    def end_grpc(self, status: str) -> None:
        """End a request over gRPC with the name of its status."""
        attributes = {
            "rpc.system.name": "grpc",
            "rpc.method": self.name,
            "rpc.response.status_code": status,
        }
        failed = status if status in GRPC_ERRORS else ""
        self._end(attributes, CANCELLED if status == "CANCELLED" else failed)

    def _end(self, attributes: Mapping[str, str | int], error: str) -> None:
        try:
            self.recorder.record(self, End(perf_counter(), time_ns(), attributes, error))
        except Exception:
            log.exception("a request was not traced")


class Tracing:
    """Chooses the requests that are traced.

    Args:
        share: Probability that a request without a parent is traced.
        recorder: Gets the traces.
    """

    def __init__(self, share: float, recorder: Recorder) -> None:
        self._share = share
        self._recorder = recorder
        self._random = random.Random().random  # noqa: S311 (no secret)

    def begin(
        self, name: str, headers: tuple[bytes, bytes], arrived: float, request_id: bytes
    ) -> Trace | None:
        """Return the trace of a request, or `None` if it is not sampled.

        The flag of a parent decides, if there is one.

        Args:
            name: Name of its span.
            headers: `traceparent` and `tracestate`, or empty.
            arrived: Time of arrival, by `time.perf_counter`.
            request_id: Id of the request, or empty.
        """
        parent = parent_of(*headers) if headers[0] else None
        sampled = self._random() < self._share if parent is None else parent.sampled
        if not sampled:
            return None
        return Trace(self._recorder, name, arrived, parent, request_id)

    async def close(self) -> None:
        """Export the traces that ended, in bounded time."""
        await self._recorder.close()
