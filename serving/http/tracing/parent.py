"""The client's span, as the headers `traceparent` and `tracestate` name it.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
MAX_STATE = 512  # bytes of a `tracestate` that is continued
SAMPLED = 0x01  # flag
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


class Parent(NamedTuple):
    """The span that a request is a child of.

    Attributes:
        trace_id: Above 0, 16 bytes.
        span_id: Above 0, 8 bytes.
        sampled: The client records the trace.
        state: Header `tracestate`, or empty.
    """

    trace_id: int
    span_id: int
    sampled: bool
    state: str


def parent_of(traceparent: bytes, tracestate: bytes) -> Parent | None:
    """Return the client's span. `None` if `traceparent` is not valid."""
    match = _FORM.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    trace, span = int(trace_id, 16), int(span_id, 16)
    if not (trace and span):
        return None
    state = tracestate.decode("latin-1") if len(tracestate) <= MAX_STATE else ""
    return Parent(trace, span, bool(int(flags, 16) & SAMPLED), state)


def fields_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Return `traceparent` and `tracestate` of headers, names in lower case. Empty without them.

    `traceparent` is empty if there are several. Several `tracestate` are one list.
    """
    parents, states = [], []
    for name, value in headers:
        if name == TRACEPARENT:
            parents.append(value)
        elif name == TRACESTATE:
            states.append(value)
    return parents[0] if len(parents) == 1 else b"", b",".join(states)
