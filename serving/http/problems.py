"""Error responses: problem details of RFC 9457, the only form of errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache

from starlette.responses import JSONResponse, Response
from starlette.types import Message, Send

from serving.errors import ProviderError, ServingError, UnknownModelError, WorkerError
from serving.observe.metrics import Metrics

PROBLEM_JSON = "application/problem+json"
CACHED = 64  # bodies of problems
# Headers of every response, from the fast path too. A body is never taken for another type.
SAFETY_HEADERS = ((b"x-content-type-options", b"nosniff"),)
# Raised before the server takes requests, or by the inference protocol only.
NOT_OF_CLASSIFY = (ProviderError, WorkerError, UnknownModelError)
INTERNAL_ERROR = ServingError("an error of the server; its log says more")


def problem_response(
    metrics: Metrics,
    problem_type: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Count a problem and return its response."""
    metrics.problem(problem_type)
    content = _content(problem_type, status, detail)
    response = Response(content, status, headers, media_type=PROBLEM_JSON)
    response.raw_headers += SAFETY_HEADERS
    return response


def error_response(metrics: Metrics, error: ServingError) -> Response:
    """Count an error of this server and return its problem response."""
    return problem_response(metrics, error.type, error.status, str(error), error.headers)


def safe_send(send: Send, *, body: bool = True) -> Send:
    """Return a `send` that adds `SAFETY_HEADERS`, and without `body` sends an empty one."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [each for each in message["headers"] if each not in SAFETY_HEADERS]
            message = {**message, "headers": [*headers, *SAFETY_HEADERS]}
        elif not body and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return sending


@lru_cache(CACHED)
def _content(problem_type: str, status: int, detail: str) -> bytes:
    """Return the body of a problem. Under overload, one problem is the answer to thousands."""
    body = {
        "type": f"/problems/{problem_type}",
        "title": problem_type.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    return bytes(JSONResponse(body).body)


@cache
def problem_types() -> Mapping[int, tuple[str, ...]]:
    """Return the problem types of each status that `POST /classify` can have, ascending."""
    found: dict[int, set[str]] = {}
    for error in _errors_below(ServingError):
        found.setdefault(error.status, set()).add(error.type)
    return {status: tuple(sorted(found[status])) for status in sorted(found)}


def _errors_below(base: type[ServingError]) -> Iterator[type[ServingError]]:
    """Yield the class and all classes below it that a response can report."""
    if base not in NOT_OF_CLASSIFY:
        yield base
    for each in base.__subclasses__():
        yield from _errors_below(each)
