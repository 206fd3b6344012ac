"""Errors in the form of the protocol: `{"error": text}`, with the status of the native API.

The content type has no parameter. With a `charset`, KServe's client shows no text.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.types import Send

from serving.errors import ServingError
from serving.http.classify import headers_of, send_response
from serving.http.connection import Headers
from serving.http.problems import CountsProblems, with_head

NOT_FOUND, WRONG_METHOD = "not-found", "method-not-allowed"  # as in the native API


def error_content(
    metrics: CountsProblems, problem_type: str, text: str, headers: Mapping[str, str]
) -> tuple[Headers, bytes]:
    """Count an error, and return the headers and the body of its response."""
    metrics.problem(problem_type)
    body = orjson.dumps({"error": text})
    more = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return [*headers_of(body), *more], body


async def send_not_served(send: Send, metrics: CountsProblems, path: str, reason: str = "") -> None:
    """Count a call to a path that is not served, and send its response, with a reason if any."""
    text = f"{path[:256]} is not served" + (f": {reason}" if reason else "")
    await send_response(send, 404, *error_content(metrics, NOT_FOUND, text, {}))


async def send_wrong_method(send: Send, metrics: CountsProblems, path: str, method: str) -> None:
    """Count a call to a path that answers another method only, and send its response."""
    allowed = with_head(method)
    text = f"{path[:256]} answers {allowed} only"
    content = error_content(metrics, WRONG_METHOD, text, {"Allow": allowed})
    await send_response(send, 405, *content)


def content_of(metrics: CountsProblems, error: ServingError) -> tuple[Headers, bytes]:
    """Count an error of this server, and return the headers and the body of its response."""
    return error_content(metrics, error.type, str(error), error.headers)
