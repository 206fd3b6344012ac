"""Error responses: problem details of RFC 9457, the only form of errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Protocol

from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Send

from serving.errors import (
    ModelLoadError,
    NoAdminError,
    ParameterError,
    ProviderError,
    ServingError,
    WorkerError,
)

PROBLEM_JSON = "application/problem+json"
CACHED = 64  # bodies of problems
# Headers of every response, from the fast path too. A body is never taken for another type.
SAFETY_HEADERS = ((b"x-content-type-options", b"nosniff"),)
# Raised before the server takes requests, or by calls that change models.
NOT_OF_CLASSIFY = (ProviderError, WorkerError, NoAdminError, ModelLoadError)
INTERNAL_ERROR = ServingError("an error of the server; its log says more")


class CountsProblems(Protocol):
    """Metrics that count problems: of a model, or of a server with several."""

    def problem(self, type_: str) -> None:
        """Count a call that was answered with a problem of this type."""


def problem_response(
    metrics: CountsProblems,
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


def error_response(metrics: CountsProblems, error: ServingError) -> Response:
    """Count an error of this server and return its problem response."""
    return problem_response(metrics, error.type, error.status, str(error), error.headers)


def add_handlers(app: Starlette, metrics: CountsProblems) -> None:
    """Let an app answer every error with a problem, and count it.

    The handlers are coroutines, because Starlette runs plain functions on a thread.
    """

    async def serving_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServingError)
        return error_response(metrics, error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return error_response(metrics, ParameterError(f"{first['loc'][-1]}: {first['msg']}"))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _response_of(metrics, error, request.url.path)

    async def bug(_: Request, __: Exception) -> Response:
        return error_response(metrics, INTERNAL_ERROR)

    app.add_exception_handler(ServingError, serving_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, bug)


def _response_of(metrics: CountsProblems, error: HTTPException, path: str) -> Response:
    """Return the problem of a path that is not served, or not with this method."""
    kind = error.detail.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    allowed = headers.get("Allow")
    if allowed:
        allowed = headers["Allow"] = with_head(allowed)
    does = f"answers {allowed} only" if allowed else "is not served; /docs lists what is"
    return problem_response(metrics, kind, error.status_code, f"{path[:256]} {does}", headers)


def with_head(methods: str) -> str:
    """Return the methods of a header `Allow`, with HEAD beside GET."""
    found = {*methods.split(", ")}
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))


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
