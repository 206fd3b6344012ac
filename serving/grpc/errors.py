"""Errors as statuses of gRPC, with the text of the native API."""

from __future__ import annotations

import asyncio
import logging

from serving.errors import ServingError
from serving.grpc.calls import CallError, Failure, Status
from serving.http.problems import INTERNAL_ERROR, CountsProblems

CODES = {
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    408: Status.DEADLINE_EXCEEDED,
    429: Status.RESOURCE_EXHAUSTED,
    500: Status.INTERNAL,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}
# https://github.com/grpc/proposal/blob/master/A6-client-retries.md
PUSHBACK = b"grpc-retry-pushback-ms"
log = logging.getLogger(__name__)


def status_of(error: BaseException) -> Status:
    """Return the status that a call ends with because of an error."""
    if isinstance(error, CallError):
        return error.status
    if isinstance(error, ServingError):
        return CODES.get(error.status, Status.INVALID_ARGUMENT)
    return Status.CANCELLED if isinstance(error, asyncio.CancelledError) else Status.INTERNAL


def failure_of(metrics: CountsProblems, error: Exception) -> Failure:
    """Count an error of the server. Return the end of a call because of an error.

    It says when to try again, if the error does. An unexpected error is logged.
    """
    if isinstance(error, CallError):
        return Failure(error.status, str(error))
    if not isinstance(error, ServingError):
        log.error("Exception in a method of gRPC", exc_info=error)
        error = INTERNAL_ERROR
    metrics.problem(error.type)
    seconds = error.headers.get("Retry-After")
    trailers = ((PUSHBACK, b"%d" % (1000 * int(seconds))),) if seconds else ()
    return Failure(status_of(error), str(error), trailers)
