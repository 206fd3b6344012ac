"""A call: the time that is left for it, its key, and the span that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from serving.grpc.errors import Call
from serving.http.connection.request_id import NAME, valid_request_id
from serving.http.tracing.parent import fields_of

AUTHORIZATION = "authorization"
# A deadline of a call above this bounds no exit, so that exits run as without one. gRPC cancels
# the call at its deadline.
LONGEST_DEADLINE = 10.0
MARGIN = 0.005  # seconds before a call's deadline, for the answer on its way


def seconds_of(call: Call) -> float | None:
    """Return the time in which a call must have its answer. `None` for no bound."""
    left: float | None = call.time_remaining()
    if left is None or left > LONGEST_DEADLINE:
        return None
    return max(left - MARGIN, MARGIN / 1000)


def traced_metadata(call: Call) -> tuple[tuple[bytes, bytes], bytes]:
    """Return the fields of the parent's span in the metadata of a call, and its request id."""
    pairs = [
        (key.encode(), value.encode("latin-1", "replace"))
        for key, value in call.invocation_metadata() or ()
        if isinstance(value, str)
    ]
    found = [value for key, value in pairs if key == NAME]
    return fields_of(pairs), valid_request_id(found[0]) if len(found) == 1 else b""


def keys_of(call: Call) -> Iterator[tuple[bytes, bytes]]:
    """Yield the metadata of a call in which its key is. A server without a key does not read it."""
    for key, value in call.invocation_metadata() or ():
        if key == AUTHORIZATION:
            yield key.encode(), str(value).encode("latin-1", "replace")
