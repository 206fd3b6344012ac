"""The endpoints: one function each.

`POST /classify` is, in order: policy from the query, images from the body (bounded while it
is read), slots or refusal, decoding off the loop, the engine, JSON. A client that hangs up
anywhere on this way gives its slots back.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Coroutine
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect

from serving.bodies import JSON, MULTIPART, read_images
from serving.engine import Engine
from serving.errors import DeadlineError, NotReadyError, ParameterError, UnauthorizedError
from serving.images import Decoder
from serving.manifest import Manifest
from serving.metrics import Metrics
from serving.policy import Policy, resolve
from serving.schemas import (
    Classification,
    ClassifyImages,
    ClassifyQuery,
    Health,
    ModelDescription,
    Problem,
    image_answer,
)

T = TypeVar("T")
FILE = {"type": "string", "format": "binary"}
BODY = {
    "required": True,
    "description": "One image file as it is (any other content type is read so), several as a "
    "multipart form, or base64 in JSON.",
    "content": {
        "image/*": {"schema": FILE},
        MULTIPART: {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": FILE}},
            }
        },
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


@dataclass(frozen=True, slots=True)
class Service:
    """What the endpoints work with."""

    manifest: Manifest
    description: bytes
    engine: Engine
    decoder: Decoder
    metrics: Metrics
    max_body_bytes: int
    max_images: int
    api_key: str | None


def service_of(request: Request) -> Service:
    """The service of the app that the request came to."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def authenticate(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    """Let pass who sends the API key.

    Raises:
        UnauthorizedError: it is missing or wrong.
    """
    key = service_of(request).api_key
    assert key is not None
    if given is None or not hmac.compare_digest(given.credentials.encode(), key.encode()):
        raise UnauthorizedError("the API key is missing or wrong; send Authorization: Bearer KEY")


@guarded.post("/classify", response_model=Classification, openapi_extra={"requestBody": BODY})
async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Classify one image or several, each at the earliest exit that the budget allows.

    `curl --data-binary @cat.jpg 'localhost:8000/classify?budget=low'`
    """
    arrived = perf_counter()
    _given_once(request.query_params)
    service = service_of(request)
    policy = resolve(
        service.manifest,
        query.budget,
        query.min_confidence,
        query.deadline_ms,
        explain=query.explain,
    )
    files = await read_images(request, service.max_body_bytes, service.max_images)
    answers = await unless_hung_up(request, _answers(service, files, policy, query, arrived))
    model = {"name": service.manifest.name, "version": service.manifest.version}
    return JSONResponse({"model": model, "budget": policy.asked, "answers": answers})


def _given_once(query: QueryParams) -> None:
    names = [name for name, _ in query.multi_items()]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"{name[:64]}: given more than once; leave all but one out")


async def _answers(
    service: Service, files: list[bytes], policy: Policy, query: ClassifyQuery, arrived: float
) -> list[dict[str, Any]]:
    with service.engine.admit(len(files), policy) as slots:
        started = perf_counter()
        try:
            async with asyncio.timeout(policy.left(started - arrived)):
                images = await service.decoder.decode(files)
        except TimeoutError as error:
            service.metrics.count(policy.name, "expired", len(files))
            raise DeadlineError("deadline_ms passed while decoding; allow more time") from error
        decode = perf_counter() - started
        service.metrics.decode(decode)
        answers = await service.engine.answer(slots, images, policy, arrived)
    return [image_answer(service.manifest, answer, query, decode) for answer in answers]


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
    """Requests are taken; 503 while starting or shutting down."""
    if not service_of(request).engine.ready:
        raise NotReadyError("shutting down")
    return Health(status="ready")


@public.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(service_of(request).metrics.registry), media_type=content_type)


async def unless_hung_up(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, or cancel it where the client, its body read, hangs up.

    Raises:
        ClientDisconnect: it hung up.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
