"""The app: a bundle loaded, its parts put together, and one handler for all errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from time import perf_counter, thread_time

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.engine import Engine
from serving.errors import OfframpError, ParameterError, UnknownParameterError
from serving.images import Decoder
from serving.latency import sizes_up_to
from serving.manifest import Manifest, read_manifest
from serving.metrics import Metrics, Model
from serving.overload import HighWater
from serving.policy import MIN_CONFIDENCE, NUMERIC
from serving.pool import Pool
from serving.routes import Service, authenticate, guarded, public, service_of
from serving.runtime import Runtime
from serving.scheduler import Scheduler
from serving.schemas import ClassifyQuery, describe
from serving.settings import Settings
from serving.warm_up import measure

HUNG_UP = 499  # nobody reads it; the status that nginx logs for a client that closed
PROBLEM_JSON = "application/problem+json"


def create_app(settings: Settings) -> FastAPI:
    """Load the bundle, warm it up, and make the app that serves it.

    Raises:
        BundleError: the bundle is damaged, or not of this server's format.
        ProviderError: the provider is not to be had.
    """
    manifest = read_manifest(settings.bundle)
    runtime = Runtime(
        settings.bundle, manifest, settings.provider, settings.device, settings.layout
    )
    for size in {1, settings.max_batch}:
        runtime.warm_up(size)
    metrics = Metrics(_measured(manifest, settings.provider))
    engine = _engine(settings, manifest, runtime, metrics)
    return _app(
        Service(
            manifest=manifest,
            description=describe(manifest).model_dump_json().encode(),
            engine=engine,
            decoder=Decoder(manifest.input, settings.max_pixels, settings.threads),
            metrics=metrics,
            max_body_bytes=settings.max_body_bytes,
            max_images=settings.max_images,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        )
    )


def _engine(settings: Settings, manifest: Manifest, runtime: Runtime, metrics: Metrics) -> Engine:
    pool = Pool(runtime.inputs, runtime.features, settings.slots)
    sizes = sizes_up_to(min(settings.max_batch, settings.slots))
    latency = measure(
        runtime, pool, sizes, thread_time if settings.provider == "cpu" else perf_counter
    )
    scheduler = Scheduler(latency, settings.max_batch, settings.order, rebatch=settings.rebatch)
    degrades = settings.overload == "degrade"
    seconds = settings.degrade_above_ms / 1e3 * settings.threads
    high_water = HighWater(seconds if degrades else None)
    flops_of = lru_cache(maxsize=1024)(manifest.flops_of)
    return Engine(runtime, pool, scheduler, metrics, flops_of, settings.threads, high_water)


def _measured(manifest: Manifest, provider: str) -> Model:
    return Model(
        name=manifest.name,
        version=manifest.version,
        precision=manifest.precision,
        provider=provider,
        exits=manifest.exits,
        full_flops=manifest.full_flops,
        expected={
            name: tuple(share.value for share in point.exit_shares)
            for name, point in manifest.budgets.items()
        },
        unexpected=(NUMERIC, MIN_CONFIDENCE),
    )


def _app(service: Service) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        yield
        await service.engine.drain()
        service.decoder.close()

    app = FastAPI(
        title="Offramp",
        summary="Early-exit inference: say what an answer may cost.",
        version=service.manifest.version,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(guarded, dependencies=[Depends(authenticate)] if service.api_key else [])
    app.include_router(public)
    app.add_exception_handler(OfframpError, _offramp_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(Exception, _bug)
    return app


def _problem(
    request: Request, kind: str, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The one way in which an error is answered (RFC 9457)."""
    service_of(request).metrics.problem(kind)
    body = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    return JSONResponse(body, status, headers, media_type=PROBLEM_JSON)


# The handlers are coroutines, because Starlette runs plain functions on a thread.
async def _offramp_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OfframpError)
    return _problem(request, error.type, error.status, str(error), error.headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        known = ", ".join(ClassifyQuery.model_fields)
        text = f"there is no query parameter {name[:64]!r}; there are {known}"
        return await _offramp_error(request, UnknownParameterError(text))
    return await _offramp_error(request, ParameterError(f"{name}: {first['msg']}"))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = error.detail.lower().replace(" ", "-")
    path = request.url.path
    allowed = (error.headers or {}).get("Allow")
    does = f"answers {allowed} only" if allowed else "is not served; /docs lists what is"
    return _problem(request, kind, error.status_code, f"{path} {does}", error.headers)


async def _hung_up(_: Request, __: Exception) -> Response:
    return Response(status_code=HUNG_UP)


async def _bug(request: Request, _: Exception) -> Response:
    return await _offramp_error(request, OfframpError("an error of the server; its log says more"))
