"""The traces of requests that take the normal path, in the extensions of their scope."""

from __future__ import annotations

from starlette.types import Scope

from serving.http.tracing.parent import fields_of
from serving.http.tracing.trace import Trace, Tracing

TRACE = "offramp.trace"  # extension of a scope


def begin_trace(
    tracing: Tracing, scope: Scope, route: str, arrived: float, request_id: bytes
) -> Trace | None:
    """Begin the trace of a request and keep it in its scope. `None` if it is not sampled."""
    name = f"{scope['method']} {route}"
    trace = tracing.begin(name, fields_of(scope["headers"]), arrived, request_id)
    if trace is not None:
        scope["extensions"] = {**scope.get("extensions", {}), TRACE: trace}
    return trace


def trace_of(scope: Scope) -> Trace | None:
    """Return the trace of a request, or `None` if it is not traced."""
    trace = scope.get("extensions", {}).get(TRACE)
    assert trace is None or isinstance(trace, Trace)
    return trace
