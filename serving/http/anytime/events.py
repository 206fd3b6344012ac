"""The events of an anytime stream, as server-sent events (text/event-stream) with JSON data.

`exit`: the answer of one exit for one image (`schemas.ExitAnswer`), as soon as it is known.
`answer`: the body that a request without a stream gets. It is the last event.
`problem`: instead of `answer`, if the request fails after its first event.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import orjson
from starlette.types import Scope

from offramp.bundle.manifest import Manifest
from serving.engine.opinion import Opinion
from serving.http.formatter import DECIMALS, top_k
from serving.http.query import ParsedQuery

EVENTS = "text/event-stream"
ACCEPTS = EVENTS.encode()
REFUSED = re.compile(rb";\s*q=0(\.0*)?\s*(;|$)")
Event = Literal["exit", "answer", "problem"]


def asks_for_events(accept: bytes) -> bool:
    """Return whether the first media type of a header `Accept` is that of events.

    With the weight 0 it is refused (RFC 9110, 12.4.2).
    """
    first = accept.lower().partition(b",")[0]
    return first.partition(b";")[0].strip() == ACCEPTS and not REFUSED.search(first)


def wants_events(scope: Scope) -> bool:
    """Return whether a request wants events. HTTP/1.0 has no response of unknown length."""
    if scope.get("http_version") == "1.0":
        return False
    accepts = (value for name, value in scope["headers"] if name == b"accept")
    return asks_for_events(next(accepts, b""))  # several headers are one list, in order


def event(kind: Event, data: bytes) -> bytes:
    """Return an event. `data` is JSON without line ends."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


class ExitFormatter:
    """Formats the answers of single exits of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        self._full_flops = manifest.full_flops
        self._flops = [stage.flops_to_exit for stage in manifest.stages]

    def format(
        self, image: int, exit_: int, opinion: Opinion, parsed: ParsedQuery, elapsed: float
    ) -> bytes:
        """Return an `ExitAnswer` as JSON.

        Args:
            image: Number of the image in its call, from 0.
            exit_: Number of the exit, from 1.
            opinion: What the exit says about the image.
            parsed: The query, with the policy that answers.
            elapsed: Seconds since the call arrived.
        """
        ranked = top_k(opinion.probabilities, self._labels, parsed.query.top_k)
        flops = self._flops[exit_ - 1]
        body: dict[str, Any] = {
            "image": image,
            "exit": exit_,
            **ranked[0],
            "confidence": round(opinion.confidence, DECIMALS),
            "threshold": parsed.policy.thresholds[exit_ - 1],
            "top_k": ranked,
            "flops": flops,
            "flops_share": round(flops / self._full_flops, DECIMALS),
            "elapsed_ms": round(elapsed * 1e3, 3),
        }
        return orjson.dumps(body)
