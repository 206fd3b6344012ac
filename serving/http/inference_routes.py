"""The routes of inferences. A span has the route, not the path, which clients choose."""

from __future__ import annotations

import re
from functools import lru_cache

from serving.http.openapi import MODELS, OPERATIONS

NATIVE = [operation.path for operation in OPERATIONS]
ROUTES = (
    *NATIVE,
    *(MODELS + path for path in NATIVE),
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
)
_PATTERNS = [(re.compile(re.sub(r"{\w+}", "[^/]+", route)), route) for route in ROUTES]


@lru_cache(256)
def route_of(path: str) -> str | None:
    """Return the route of an inference, or `None` for any other path."""
    return next((route for pattern, route in _PATTERNS if pattern.fullmatch(path)), None)
