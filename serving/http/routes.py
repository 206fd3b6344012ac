"""The endpoints, one function each, and the handlers of errors. `Classify` is an own class."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serving.errors import NotReadyError, UnknownParameterError
from serving.http.bodies.body import JSON
from serving.http.models.frontend import Frontend
from serving.http.models.listing import ModelList, list_models
from serving.http.models.served import ServedModel
from serving.http.openapi import problems
from serving.http.query import VERSION, parameters_of, validated
from serving.http.schemas import Health, ModelDescription, describe
from serving.observe.prometheus_internals import choose_encoder

METRICS = {
    kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")
}
public = APIRouter(tags=["operation"])
guarded = APIRouter(tags=["classification"], responses=problems([401, 500]))


async def version_asked(
    request: Request,
    _: Annotated[
        str,
        Query(
            alias=VERSION,
            default_factory=str,
            max_length=64,
            json_schema_extra={"minLength": 1},
            description="version. Default: the one that was loaded last",
        ),
    ],
) -> str:
    """Return the version that a call asks for, or an empty string. FastAPI knows its form only.

    Raises:
        ParameterError: It has a wrong value, or is given twice, or there are too many parameters.
        UnknownParameterError: There is another parameter.
    """
    parameters = parameters_of(request.scope["query_string"])
    for name in parameters:
        if name != VERSION:
            text = f"there is no query parameter {name[:64]!r}; there is {VERSION} alone"
            raise UnknownParameterError(text)
    return validated(parameters).version or ""


Version = Annotated[str, Depends(version_asked)]


def frontend_of(request: Request) -> Frontend:
    """Return the models of the app that got the request."""
    frontend = request.app.served
    assert isinstance(frontend, Frontend)
    return frontend


async def authenticate(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    """Check the API key of a call, if the server has one.

    Raises:
        UnauthorizedError: The key is missing or wrong.
    """
    frontend_of(request).authenticate_all(request.scope["headers"])


@guarded.get("/model", response_model=ModelDescription, responses=problems([404, 422]))
async def model(request: Request, version: Version) -> Response:
    """Describe the model: labels, input, exits, budgets and the curve of operating points.

    Of several models, it is the one that answers `/classify`.
    """
    return _described(frontend_of(request).models.find_default(version))


@guarded.get("/models")
async def models(request: Request) -> ModelList:
    """List the models that are loaded."""
    return list_models(frontend_of(request).models)


@guarded.get("/models/{name}", response_model=ModelDescription, responses=problems([404, 422]))
async def named_model(
    request: Request,
    name: Annotated[str, Path(max_length=64, description="name of the model")],
    version: Version,
) -> Response:
    """Describe a model, as `/model` does."""
    return _described(frontend_of(request).models.find(name, version))


def _described(model: ServedModel) -> Response:
    """Return the description of a model, with its milliseconds as of now."""
    described = describe(model.context.manifest, model.context.milliseconds)
    return Response(described.model_dump_json(), media_type=JSON)


@public.get("/health/live")
async def live() -> Health:
    """Answer while the process runs."""
    return Health(status="live")


@public.get("/health/ready", responses=problems([503]))
async def ready(request: Request) -> Health:
    """Answer 200 while requests are taken, else 503 with the reason in `detail`."""
    if (reason := frontend_of(request).refusal) is not None:
        raise NotReadyError(reason)
    return Health(status="ready")


@public.get("/metrics", response_class=Response, responses={200: {"content": METRICS}})
async def metrics(request: Request) -> Response:
    """Return Prometheus metrics."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(frontend_of(request).metrics.registry), media_type=content_type)
