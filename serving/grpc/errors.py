"""Errors as statuses of gRPC, with the text of the native API."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import NoReturn, TypeAlias

import grpc

from serving.errors import ServingError
from serving.http.problems import CountsProblems

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# https://github.com/grpc/proposal/blob/master/A6-client-retries.md
PUSHBACK = "grpc-retry-pushback-ms"

Call: TypeAlias = grpc.aio.ServicerContext
# Metrics of the model of this call, once it is found. Each call is a task, with a context.
COUNTING: ContextVar[CountsProblems] = ContextVar("counting")


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the status that a call ends with because of an error."""
    if isinstance(error, ServingError):
        return CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.INTERNAL


async def abort(call: Call, metrics: CountsProblems, error: ServingError) -> NoReturn:
    """Count an error and end a call with its status. Says when to try again, if the error does.

    Raises:
        grpc.aio.AbortError: Always. It ends the method.
    """
    metrics.problem(error.type)
    seconds = error.headers.get("Retry-After")
    trailers = ((PUSHBACK, str(1000 * int(seconds))),) if seconds else ()
    await call.abort(code_of(error), str(error), trailers)
    raise AssertionError("gRPC ended the method")
