"""Error responses: problem details of RFC 9457, the only form of errors."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from serving.errors import ServingError
from serving.observe.metrics import Metrics

PROBLEM_JSON = "application/problem+json"
INTERNAL_ERROR = ServingError("an error of the server; its log says more")


def problem_response(
    metrics: Metrics,
    problem_type: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Count a problem and return its response."""
    metrics.problem(problem_type)
    body = {
        "type": f"/problems/{problem_type}",
        "title": problem_type.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    return JSONResponse(body, status, headers, media_type=PROBLEM_JSON)


def error_response(metrics: Metrics, error: ServingError) -> JSONResponse:
    """Count an error of this server and return its problem response."""
    return problem_response(metrics, error.type, error.status, str(error), error.headers)
