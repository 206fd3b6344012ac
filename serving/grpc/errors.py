"""Errors as statuses of gRPC, with the text of the native API."""

from __future__ import annotations

from typing import NoReturn

import grpc

from serving.errors import ServingError
from serving.observe.metrics import Metrics

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# https://github.com/grpc/proposal/blob/master/A6-client-retries.md
PUSHBACK = "grpc-retry-pushback-ms"


async def abort(call: grpc.aio.ServicerContext, metrics: Metrics, error: ServingError) -> NoReturn:
    """Count an error and end a call with its status. Says when to try again, if the error does."""
    metrics.problem(error.type)
    seconds = error.headers.get("Retry-After")
    trailers = ((PUSHBACK, str(1000 * int(seconds))),) if seconds else ()
    code = CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
    await call.abort(code, str(error), trailers)
