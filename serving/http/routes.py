"""The endpoints, one function each, and the handlers of errors. `Classify` is an own class."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from serving.errors import NotReadyError, ServingError
from serving.http.body import JSON
from serving.http.context import ServerContext
from serving.http.openapi import problems
from serving.http.problems import INTERNAL_ERROR, error_response, problem_response
from serving.http.schemas import Health, ModelDescription, describe
from serving.observe.prometheus_internals import choose_encoder

METRICS = {
    kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")
}
public = APIRouter(tags=["operation"])
guarded = APIRouter(tags=["classification"], responses=problems([401, 500]))


def context_of(request: Request) -> ServerContext:
    """Return the context of the app that got the request."""
    context = request.app.state.context
    assert isinstance(context, ServerContext)
    return context


async def authenticate(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    """Check the API key of a call, if the server has one.

    Raises:
        UnauthorizedError: The key is missing or wrong.
    """
    context_of(request).authenticate_all(request.scope["headers"])


@guarded.get("/model", response_model=ModelDescription)
async def model(request: Request) -> Response:
    """Describe the model: labels, input, exits, budgets, curve, and milliseconds as of now."""
    context = context_of(request)
    described = describe(context.manifest, context.milliseconds)
    return Response(described.model_dump_json(), media_type=JSON)


@public.get("/health/live")
async def live() -> Health:
    """Answer while the process runs."""
    return Health(status="live")


@public.get("/health/ready", responses=problems([503]))
async def ready(request: Request) -> Health:
    """Answer 200 while requests are taken, else 503 with the reason in `detail`."""
    if (reason := context_of(request).engine.refusal) is not None:
        raise NotReadyError(reason)
    return Health(status="ready")


@public.get("/metrics", response_class=Response, responses={200: {"content": METRICS}})
async def metrics(request: Request) -> Response:
    """Return Prometheus metrics."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(context_of(request).metrics.registry), media_type=content_type)


def handle_errors(app: FastAPI) -> None:
    """Answer each error of an endpoint with a problem."""
    app.add_exception_handler(ServingError, _offramp_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)


# The handlers are coroutines, because Starlette runs plain functions on a thread.
async def _offramp_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return error_response(context_of(request).metrics, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = error.detail.lower().replace(" ", "-")
    path = request.url.path
    headers = dict(error.headers or {})
    if "GET" in headers.get("Allow", ""):
        headers["Allow"] += ", HEAD"
    allowed = headers.get("Allow")
    does = f"answers {allowed} only" if allowed else "is not served; /docs lists what is"
    metrics = context_of(request).metrics
    return problem_response(metrics, kind, error.status_code, f"{path[:256]} {does}", headers)


async def _bug(request: Request, _: Exception) -> Response:
    return error_response(context_of(request).metrics, INTERNAL_ERROR)
