"""Spans as they are received, in plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PARENT = 0xABC


@dataclass(frozen=True)
class Span:
    """A span as it was received, ids as numbers and times in nanoseconds since 1970."""

    name: str
    trace: int
    id: int
    parent: int
    kind: int
    start: int
    end: int
    state: str
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Receiver:
    """Keeps all spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, span: Any, resource: Any) -> None:
        self.spans.append(read(span, values(resource.attributes)))

    def of(self, trace: int) -> list[Span]:
        """Return the spans of a trace in the order of their begin, that of the request first."""
        found = [span for span in self.spans if span.trace == trace]
        return sorted(found, key=lambda span: (span.kind != 2, span.start, span.end))


def read(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        span.name,
        int.from_bytes(span.trace_id),
        int.from_bytes(span.span_id),
        int.from_bytes(span.parent_span_id),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.trace_state,
        span.status.code == 2,
        values(span.attributes),
        resource,
    )


def values(attributes: Any) -> dict[str, Any]:
    """Return attributes as plain values."""
    return {each.key: value(each.value) for each in attributes}


def value(given: Any) -> Any:
    kind = given.WhichOneof("value")
    if kind == "array_value":
        return [value(each) for each in given.array_value.values]
    return getattr(given, kind)


def traceparent(trace: int, flags: str = "01") -> dict[str, str]:
    """Return the header of a client's span."""
    return {"traceparent": f"00-{trace:032x}-{PARENT:016x}-{flags}"}
