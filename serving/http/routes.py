"""The endpoints: one function each. `POST /classify` is described here and lives in `classify`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.exposition import choose_encoder

from serving.errors import NotReadyError
from serving.http.body import JSON, MULTIPART, PIXELS
from serving.http.context import Service
from serving.http.schemas import (
    Classification,
    ClassifyImages,
    ClassifyQuery,
    Health,
    ModelDescription,
    Problem,
)

CLASSIFY = "/classify"
FILE = {"type": "string", "format": "binary"}
BODY = {
    "required": True,
    "description": "One image file as it is (any other content type is read so), several as a "
    "multipart form, or base64 in JSON; or one image or several as pixels, brought to the size "
    "that GET /model says (`input`).",
    "content": {
        "image/*": {"schema": FILE},
        MULTIPART: {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": FILE}},
            }
        },
        PIXELS: {"schema": FILE | {"description": "uint8 [n, height, width, 3], RGB, C order"}},
        JSON: {"schema": ClassifyImages.model_json_schema(mode="validation")},
    },
}
PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema()}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": PROBLEM}
    for code, text in {"4XX": "The call is at fault.", "5XX": "The server is at fault."}.items()
}
public = APIRouter(tags=["operation"])
guarded = APIRouter(tags=["classification"], responses=PROBLEMS)


def service_of(request: Request) -> Service:
    """The service of the app that the request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def authenticate(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    """Let pass who sends the API key.

    Raises:
        UnauthorizedError: it is missing or wrong.
    """
    service_of(request).authenticate(request.headers.get("authorization", ""))


@guarded.post(CLASSIFY, response_model=Classification, openapi_extra={"requestBody": BODY})
async def classify(query: Annotated[ClassifyQuery, Query()]) -> None:
    """Classify one image or several, each at the earliest exit that the budget allows.

    `curl --data-binary @cat.jpg 'localhost:8000/classify?budget=low'`
    """
    raise AssertionError(query)  # described here; the app hands such calls to `classify.Classify`


@guarded.get("/model", response_model=ModelDescription)
async def model(request: Request) -> Response:
    """What is served: labels, input, exits, budgets and the curve of operating points."""
    return Response(service_of(request).description, media_type=JSON)


@public.head("/health/live", include_in_schema=False)
@public.get("/health/live")
async def live() -> Health:
    """The process answers."""
    return Health(status="live")


@public.head("/health/ready", include_in_schema=False)
@public.get("/health/ready", responses={503: PROBLEMS["5XX"]})
async def ready(request: Request) -> Health:
    """Answer 200 while requests are taken, else 503 with the reason in `detail`."""
    if (reason := service_of(request).engine.refusal) is not None:
        raise NotReadyError(reason)
    return Health(status="ready")


@public.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(service_of(request).metrics.registry), media_type=content_type)
