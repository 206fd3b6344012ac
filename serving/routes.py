"""The endpoints: one function each.

`POST /classify` is, in order: policy from the query, images from the body (bounded while it
is read), slots or refusal, decoding off the loop, the engine, JSON. A client that hangs up
anywhere on this way gives its slots back.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.exposition import choose_encoder
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from serving.errors import (
    BodyTooLargeError,
    MalformedBodyError,
    NotReadyError,
    UnauthorizedError,
)
from serving.policy import resolve
from serving.schemas import (
    Classification,
    ClassifyImages,
    ClassifyQuery,
    Health,
    ModelDescription,
    Problem,
    image_answer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from serving.engine import Engine
    from serving.images import Decoder
    from serving.manifest import Manifest
    from serving.metrics import Metrics
    from serving.policy import Policy

T = TypeVar("T")
MULTIPART = "multipart/form-data"
JSON = "application/json"
MAX_FIELDS = 16  # of a form; there are to be none, which the error can then say by name
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
    service = service_of(request)
    policy = resolve(service.manifest, query.budget, query.min_confidence, query.deadline_ms)
    files = await read_images(request, service.max_body_bytes, service.max_images)
    answers = await unless_hung_up(request, _answers(service, files, policy, query, arrived))
    model = {"name": service.manifest.name, "version": service.manifest.version}
    return JSONResponse({"model": model, "budget": policy.asked, "answers": answers})


async def _answers(
    service: Service, files: list[bytes], policy: Policy, query: ClassifyQuery, arrived: float
) -> list[dict[str, Any]]:
    with service.engine.admit(len(files), policy, arrived) as admission:
        started = perf_counter()
        images = await service.decoder.decode(files)
        decode = perf_counter() - started
        service.metrics.decode(decode)
        answers = await admission.submit(images)
    return [image_answer(service.manifest, answer, query, decode) for answer in answers]


@guarded.get("/model", response_model=ModelDescription)
async def model(request: Request) -> Response:
    """What is served: labels, input, exits, budgets and the curve of operating points."""
    return Response(service_of(request).description, media_type=JSON)


@public.get("/health/live")
async def live() -> Health:
    """The process answers."""
    return Health(status="live")


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


async def read_images(request: Request, max_bytes: int, max_images: int) -> list[bytes]:
    """The image files of a body: raw, multipart or JSON, as its content type says.

    Raises:
        BodyTooLargeError: there are more than `max_bytes`; the rest is not read.
        MalformedBodyError: it is not what its content type says, or has too many images.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    stream = _bounded(request, max_bytes)
    if kind == MULTIPART:
        form = _Form(request.headers, stream, max_files=max_images, max_fields=MAX_FIELDS)
        files = await _from_form(form)
    else:
        body = b"".join([chunk async for chunk in stream])
        files = _from_json(body) if kind == JSON else [body]
    if not 0 < len(files) <= max_images:
        raise MalformedBodyError(f"the body has {len(files)} images; send 1 to {max_images}")
    return files


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    announced = request.headers.get("content-length", "0")
    size = int(announced) if announced.isdecimal() else 0
    if size <= max_bytes:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                break
            yield chunk
    if size > max_bytes:
        raise BodyTooLargeError(f"the body has more than {max_bytes} bytes; send smaller images")


def _from_json(body: bytes) -> list[bytes]:
    try:
        return list(ClassifyImages.model_validate_json(body).images)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise MalformedBodyError(
            f'{where}: {first["msg"]}; send {{"images": ["<base64>", ...]}}'
        ) from error


class _Form(MultiPartParser):
    """Knows whether the form came to its end, and keeps files, bounded already, in memory."""

    spool_max_size = 0
    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _from_form(parser: _Form) -> list[bytes]:
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedBodyError(f"multipart form: {error.message}") from error
    try:
        parts = form.multi_items()
        options = [name for name, part in parts if not isinstance(part, UploadFile)]
        if options:
            raise MalformedBodyError(f"multipart form: {options} are no files; use the query")
        if not parser.ended:
            raise MalformedBodyError("multipart form: breaks off before its last boundary")
        return [await part.read() for _, part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()
