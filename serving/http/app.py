"""The app: a loaded bundle, the parts that serve it, and one handler for all errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.assembly import build_engine
from serving.engine.budgets.milliseconds import Milliseconds
from serving.http.body import BodyReader
from serving.http.classify import Classify
from serving.http.connection.request_id import IdentifiedSend, name_in_log, request_id_of
from serving.http.context import ServerContext
from serving.http.fast_path import FastClassify
from serving.http.oip.requests import LENGTH
from serving.http.oip.routes import ROOT, OpenInference
from serving.http.openapi import CLASSIFY, OPERATIONS, POST, body_schemas, describe_operations
from serving.http.pages.routes import pages
from serving.http.problems import safe_send
from serving.http.routes import authenticate, guarded, handle_errors, public
from serving.http.tracing.endpoint import begin_trace
from serving.http.tracing.trace import Trace, Tracing
from serving.images.decoder import Decoder
from serving.images.rest import Rest
from serving.observe.worker_metrics import WorkerMetrics
from serving.runtime.memory import trim
from serving.settings import Settings

JSON_LENGTH = LENGTH.decode()


class Offramp(FastAPI):
    """A FastAPI app, except for `OPERATIONS`, which bypass it (`Classify`, `FastClassify`).

    Args:
        context: What the endpoints use.
        root_path: Prefix under which a proxy serves the app, or empty.
        drain_seconds: Most time from the start of a shutdown to the end of the last request.

    Attributes:
        engine: The engine that runs requests.
        fast_path: The endpoint that a `Connection` calls without a task.
        open_inference: The endpoints of the Open Inference Protocol.
    """

    def __init__(self, context: ServerContext, drain_seconds: float, root_path: str = "") -> None:
        super().__init__(
            title="Offramp",
            summary="Early-exit inference: say what an answer may cost.",
            version=context.manifest.version,
            docs_url=None,  # `pages` has its own, which asks no other host
            redoc_url=None,
            redirect_slashes=False,  # a redirect would name the host that the client gives
            generate_unique_id_function=lambda route: route.name,
            lifespan=_lifespan,
        )
        self.state.context = context
        self.engine = context.engine
        self._root_path = root_path
        self._classify = Classify(context)
        self.open_inference = OpenInference(context, self._classify)
        self.fast_path = FastClassify(context, self._classify, self.open_inference.fast_path)
        self._direct: dict[str, ASGIApp] = {
            operation.path: self._classify for operation in OPERATIONS
        }
        for path, endpoint in self._direct.items():
            self.router.routes.append(Route(path, endpoint, methods=[POST]))
        for path in (ROOT, ROOT + "/{path:path}"):
            self.router.routes.append(Route(path, self.open_inference))
        self._direct |= dict.fromkeys(self.open_inference.infer_paths, self.open_inference)
        self._tracing = context.tracing
        self._traced = frozenset(self._direct)
        self._drain_seconds = drain_seconds
        self._drain_until: float | None = None

    def allow_origins(self, origins: Sequence[str]) -> None:
        """Let pages of these origins (`scheme://host`, or `*`) call the API (CORS)."""
        self._direct = {}  # every call passes the middleware
        self.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", POST),
            allow_headers=("Authorization", "Content-Type", "X-Request-Id", JSON_LENGTH),
            expose_headers=("Retry-After", "X-Request-Id", JSON_LENGTH),
        )

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the description of `OPERATIONS`."""
        document = super().openapi()
        if CLASSIFY.path not in document["paths"]:
            context: ServerContext = self.state.context
            bodies = body_schemas(
                context.manifest.input, context.max_images, context.body_reader.max_bytes
            )
            secured = context.api_key is not None
            describe_operations(document, bodies, context.manifest, secured=secured)
        return document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the lifespan. HEAD is answered as GET, without the body."""
        if self._root_path:
            scope = {**scope, "root_path": self._root_path}
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        identified = IdentifiedSend(send, request_id_of(scope))
        trace = None if self._tracing is None else self._begin_trace(self._tracing, scope)
        try:
            await self._answer(scope, receive, identified)
        except Exception as error:
            if identified.request_id:
                name_in_log(error, identified.request_id)
            raise
        finally:
            if trace is not None:
                trace.end_http(identified.status, identified.request_id)

    def _begin_trace(self, tracing: Tracing, scope: Scope) -> Trace | None:
        """Begin the trace of an inference. Other requests are not traced."""
        route = _path_of(scope)
        if scope["method"] != POST or route not in self._traced:
            return None
        return begin_trace(tracing, scope, route, request_id_of(scope))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == POST and (direct := self._direct.get(_path_of(scope))):
            await direct(scope, receive, send)
        elif scope["method"] == "HEAD":
            await super().__call__({**scope, "method": "GET"}, receive, safe_send(send, body=False))
        else:
            await super().__call__(scope, receive, safe_send(send))

    def begin_drain(self) -> None:
        """Start the time that a shutdown can take. Further calls change nothing."""
        if self._drain_until is None:
            self._drain_until = monotonic() + self._drain_seconds

    @property
    def seconds_to_drain(self) -> float:
        """Return the time that is left to a shutdown which has begun."""
        assert self._drain_until is not None
        return max(0.0, self._drain_until - monotonic())

    def end_rests(self) -> None:
        """Let no image wait longer than its decoding needs. Only the event loop calls it."""
        self.state.context.decoder.drain()

    async def drain(self) -> None:
        """Let requests under way end, in the time that is left, and stop all threads."""
        self.begin_drain()
        self.end_rests()
        try:
            await self.engine.drain(self.seconds_to_drain)
        finally:
            self.state.context.decoder.close()
            if self._tracing is not None:
                await self._tracing.close()


def _path_of(scope: Scope) -> str:
    """Return the path of a call without the prefix, which a proxy keeps or removes."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    assert isinstance(app, Offramp)
    fresh = asyncio.create_task(app.state.context.metrics.keep_fresh())
    yield
    try:
        await app.drain()
    finally:
        fresh.cancel()


def create_app(
    settings: Settings,
    manifest: Manifest | None = None,
    shared: WorkerMetrics | None = None,
    *,
    on_device: bool = False,
) -> Offramp:
    """Load the bundle, warm it up, and return the app that serves it.

    Args:
        settings: All settings.
        manifest: The manifest of the bundle, if it was read before.
        shared: The place of this worker process, if it is one of several.
        on_device: Run as on CUDA whatever the provider is: features stay where it computes, and
            each batch size has its own sessions.

    Raises:
        BundleError: The bundle is damaged, or not of this server's format.
        ProviderError: The provider is not available.
    """
    manifest = manifest or read_manifest(settings.bundle)
    engine, metrics = build_engine(settings, manifest, shared, on_device=on_device)
    body_reader = BodyReader(
        settings.max_body_bytes, settings.max_held_bytes, settings.body_seconds
    )
    return _app(
        ServerContext(
            manifest=manifest,
            milliseconds=Milliseconds(manifest, engine.latency),
            engine=engine,
            body_reader=body_reader,
            decoder=Decoder(
                manifest.input,
                settings.max_pixels,
                settings.threads,
                body_reader.keep,
                Rest(engine.overloaded, engine.ended),
                trim,
            ),
            metrics=metrics,
            max_images=settings.max_images,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            tracing=_tracing(settings, manifest),
        ),
        settings,
    )


def _tracing(settings: Settings, manifest: Manifest) -> Tracing | None:
    if settings.otlp_endpoint is None:
        return None
    from serving.http.tracing.export import OtlpRecorder  # late: needs the extra tracing

    return Tracing(settings.trace_share, OtlpRecorder(settings.otlp_endpoint, manifest))


def _app(context: ServerContext, settings: Settings) -> Offramp:
    app = Offramp(context, settings.drain_seconds, settings.root_path)
    if settings.origins:
        app.allow_origins(settings.origins)
    app.include_router(guarded, dependencies=[Depends(authenticate)] if context.api_key else [])
    app.include_router(public)
    app.include_router(pages(playground=settings.playground))
    handle_errors(app)
    return app
