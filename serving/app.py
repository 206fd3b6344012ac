"""The app: a bundle loaded, its parts put together, and one handler for all errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache
from time import perf_counter, thread_time

from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.bodies import Bodies
from serving.classify import Classify
from serving.device import DeviceRuntime
from serving.device_pool import Device, DevicePool
from serving.engine import Engine
from serving.errors import OfframpError
from serving.fast_path import FastClassify
from serving.gpu import watch_gpu
from serving.images import Decoder
from serving.latency import sizes_up_to
from serving.manifest import Manifest, read_manifest
from serving.metrics import Metrics, Model
from serving.overload import HighWater
from serving.policy import MIN_CONFIDENCE, NUMERIC
from serving.pool import Pool, Slots
from serving.problems import BUG, problem, problem_of
from serving.routes import CLASSIFY, authenticate, guarded, public, service_of
from serving.runtime import Runtime
from serving.scheduler import Scheduler
from serving.schemas import describe
from serving.service import Service
from serving.settings import Settings
from serving.shared import Shared
from serving.warm_up import measure

DEVICE_THREADS = 2  # one has its batch computed, the other what comes before and after


class Offramp(FastAPI):
    """FastAPI, but for `POST /classify`, which goes around it (`Classify`, `FastClassify`)."""

    def __init__(self, service: Service) -> None:
        super().__init__(
            title="Offramp",
            summary="Early-exit inference: say what an answer may cost.",
            version=service.manifest.version,
            lifespan=_lifespan,
        )
        self.state.service = service
        self._classify = Classify(service)
        self.fast_path = FastClassify(service, self._classify)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A call, or the lifespan."""
        counts = scope["type"] == "http" and scope["method"] == "POST"
        if counts and scope["path"] == scope.get("root_path", "") + CLASSIFY:
            await self._classify(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    fresh = asyncio.create_task(app.state.service.metrics.keep_fresh())
    yield
    await app.state.service.engine.drain()
    fresh.cancel()
    app.state.service.decoder.close()


def create_app(
    settings: Settings,
    manifest: Manifest | None = None,
    shared: Shared | None = None,
    *,
    on_device: bool = False,
) -> FastAPI:
    """Load the bundle, warm it up, and make the app that serves it.

    Args:
        settings: all of them.
        manifest: of the bundle, where it has been read already.
        shared: this worker's place, where it is one of several.
        on_device: run as on CUDA whatever the provider: features stay where it computes, each
            batch size has sessions of its own.

    Raises:
        BundleError: the bundle is damaged, or not of this server's format.
        ProviderError: the provider is not to be had.
    """
    manifest = manifest or read_manifest(settings.bundle)
    on_device = on_device or settings.provider == "cuda"
    runtime, pool = (_on_device if on_device else _on_host)(settings, manifest)
    for size in (_largest(settings), 1):
        runtime.warm_up(size)
    metrics = Metrics(_measured(manifest, settings.provider), shared)
    if settings.provider == "cuda":
        watch_gpu(metrics.registry, settings.device)
    engine = _engine(settings, manifest, runtime, pool, metrics)
    return _app(
        Service(
            manifest=manifest,
            description=describe(manifest).model_dump_json().encode(),
            engine=engine,
            bodies=Bodies(settings.max_body_bytes, settings.max_held_bytes, settings.body_seconds),
            decoder=Decoder(manifest.input, settings.max_pixels, settings.threads),
            metrics=metrics,
            max_images=settings.max_images,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        )
    )


def _largest(settings: Settings) -> int:
    """The largest batch that there can be."""
    return min(settings.max_batch, settings.slots)


def _on_host(settings: Settings, manifest: Manifest) -> tuple[Runtime, Slots]:
    runtime = Runtime(settings.bundle, manifest, settings.layout)
    return runtime, Pool(runtime.inputs, runtime.features, settings.slots)


def _on_device(settings: Settings, manifest: Manifest) -> tuple[Runtime, Slots]:
    inputs = [stage.inputs for stage in manifest.stages]
    features = [stage.features for stage in manifest.stages]
    device = Device(settings.provider, settings.device)
    pool = DevicePool(inputs, features, settings.slots, device)
    return DeviceRuntime(settings.bundle, manifest, pool, _largest(settings)), pool


def _engine(
    settings: Settings, manifest: Manifest, runtime: Runtime, pool: Slots, metrics: Metrics
) -> Engine:
    clock = thread_time if settings.provider == "cpu" else perf_counter
    latency = measure(runtime, pool, sizes_up_to(_largest(settings)), clock)
    scheduler = Scheduler(latency, settings.max_batch, settings.order, rebatch=settings.rebatch)
    threads = min(settings.threads, DEVICE_THREADS) if runtime.on_device else settings.threads
    degrades = settings.overload == "degrade"
    seconds = settings.degrade_above_ms / 1e3 * threads
    high_water = HighWater(seconds if degrades else None)
    flops_of = lru_cache(maxsize=1024)(manifest.flops_of)
    return Engine(runtime, pool, scheduler, metrics, flops_of, threads, high_water)


def _measured(manifest: Manifest, provider: str) -> Model:
    return Model(
        name=manifest.name,
        version=manifest.version,
        precision=manifest.precision,
        provider=provider,
        exits=manifest.exits,
        full_flops=manifest.full_flops,
        mean_flops={name: point.mean_flops.value for name, point in manifest.budgets.items()},
        expected={
            name: tuple(share.value for share in point.exit_shares)
            for name, point in manifest.budgets.items()
        },
        unexpected=(NUMERIC, MIN_CONFIDENCE),
    )


def _app(service: Service) -> FastAPI:
    app = Offramp(service)
    app.include_router(guarded, dependencies=[Depends(authenticate)] if service.api_key else [])
    app.include_router(public)
    app.add_exception_handler(OfframpError, _offramp_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    return app


# The handlers are coroutines, because Starlette runs plain functions on a thread.
async def _offramp_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OfframpError)
    return problem_of(service_of(request).metrics, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = error.detail.lower().replace(" ", "-")
    path = request.url.path
    allowed = (error.headers or {}).get("Allow")
    does = f"answers {allowed} only" if allowed else "is not served; /docs lists what is"
    metrics = service_of(request).metrics
    return problem(metrics, kind, error.status_code, f"{path} {does}", error.headers)


async def _bug(request: Request, _: Exception) -> Response:
    return problem_of(service_of(request).metrics, BUG)
