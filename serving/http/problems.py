"""The one way in which an error is answered (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from serving.errors import ServingError
from serving.observe.metrics import Metrics

PROBLEM_JSON = "application/problem+json"
INTERNAL_ERROR = ServingError("an error of the server; its log says more")


def problem(
    metrics: Metrics,
    kind: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem, counted."""
    metrics.problem(kind)
    body = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    return JSONResponse(body, status, headers, media_type=PROBLEM_JSON)


def error_response(metrics: Metrics, error: ServingError) -> JSONResponse:
    """The problem that an error of ours is, counted."""
    return problem(metrics, error.type, error.status, str(error), error.headers)
