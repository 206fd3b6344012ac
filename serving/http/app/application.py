"""The app: the models, the endpoints that serve them, traces, and the time of a shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.engine.engine import Engine
from serving.errors import NotReadyError
from serving.http.bodies.openapi import body_schemas
from serving.http.connection import FastPath, arrived_of
from serving.http.connection.request_id import IdentifiedSend, name_in_log, request_id_of
from serving.http.context import ServerContext
from serving.http.inference_routes import route_of
from serving.http.models.calls import ModelCalls
from serving.http.models.fast_path import FastModels
from serving.http.models.frontend import NO_MODEL, Frontend
from serving.http.models.oip import OpenInferenceModels
from serving.http.models.served import ServedModel
from serving.http.oip.requests import LENGTH
from serving.http.oip.routes import ROOT
from serving.http.openapi import (
    CLASSIFY,
    MODELS,
    OPERATIONS,
    POST,
    describe_operations,
)
from serving.http.problems import safe_send
from serving.http.tracing.endpoint import begin_trace
from serving.http.tracing.trace import Trace, Tracing

JSON_LENGTH = LENGTH.decode()


class Offramp(FastAPI):
    """A FastAPI app, except for the calls that classify, which bypass it.

    Args:
        frontend: The models.
        drain_seconds: Most time from the start of a shutdown to the end of the last request.
        root_path: Prefix under which a proxy serves the app, or empty.
        changing: The endpoints of the inference protocol, if the models can change. `None`: there
            is one model for good, and its own endpoints answer.

    Attributes:
        served: The models, as above.
        fast_path: The endpoint that a `Connection` calls without a task.
    """

    fast_path: FastPath

    def __init__(
        self,
        frontend: Frontend,
        drain_seconds: float,
        root_path: str = "",
        changing: OpenInferenceModels | None = None,
    ) -> None:
        super().__init__(
            title="Offramp",
            summary="Early-exit inference: say what an answer may cost.",
            version=next(frontend.models.every()).version,
            docs_url=None,  # `pages` has its own, which asks no other host
            redoc_url=None,
            redirect_slashes=False,  # a redirect would name the host that the client gives
            generate_unique_id_function=lambda route: route.name,
            lifespan=_lifespan,
        )
        self.served = frontend
        self._root_path = root_path
        self._direct: dict[str, ASGIApp] = {}
        if changing is None:
            self._serve_only(frontend.models.find_default())
        else:
            calls = ModelCalls(frontend)
            self.fast_path = FastModels(frontend)
            self._add(changing, calls, calls)
        self._tracing = frontend.tracing
        self._drain_seconds = drain_seconds
        self._drain_until: float | None = None

    def _serve_only(self, model: ServedModel) -> None:
        """Let the endpoints of the only model answer."""
        self.fast_path = model.fast_path
        self._add(model.open_inference, model.classify, ModelCalls(self.served))
        self._direct = model.direct
        self.state.context = model.context

    def _add(self, open_inference: ASGIApp, classify: ASGIApp, named: ASGIApp) -> None:
        """Add the endpoints that are plain ASGI apps."""
        routes = self.router.routes
        for operation in OPERATIONS:
            routes.append(Route(operation.path, classify, methods=[POST]))
            routes.append(Route(MODELS + operation.path, named, methods=[POST]))
        for path in (ROOT, ROOT + "/{path:path}"):
            routes.append(Route(path, open_inference))

    @property
    def engine(self) -> Engine:
        """Return the engine of the model that answers calls without a name."""
        return self.served.models.find_default().context.engine

    def when_broken(self, callback: Callable[[], object]) -> None:
        """Call back on the event loop if the engine of a model breaks."""
        self.served.models.watch(lambda each: each.context.engine.when_broken(callback))

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
        """Return the OpenAPI document, with the description of `OPERATIONS`.

        Raises:
            NotReadyError: No model is loaded.
        """
        document = super().openapi()
        if CLASSIFY.path not in document["paths"]:
            example = next(self.served.models.every(), None)  # of several models
            if example is None:
                raise NotReadyError(NO_MODEL)
            _describe(document, example.context)
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
        route = route_of(_path_of(scope))
        if scope["method"] != POST or route is None:
            return None
        return begin_trace(tracing, scope, route, arrived_of(scope), request_id_of(scope))

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
        for model in self.served.models.every():
            model.context.decoder.drain()

    async def drain(self) -> None:
        """Let requests under way end, in the time that is left, and stop all threads."""
        self.begin_drain()
        self.end_rests()
        seconds = self.seconds_to_drain
        try:
            await asyncio.gather(*(each.stop(seconds) for each in self.served.models.every()))
        finally:
            if self._tracing is not None:
                await self._tracing.close()


def _describe(document: dict[str, Any], context: ServerContext) -> None:
    """Add the operations that classify to an OpenAPI document, with the bounds of this server."""
    bodies = body_schemas(context.manifest.input, context.max_images, context.body_reader.max_bytes)
    secured = context.api_key is not None
    describe_operations(document, bodies, context.manifest, secured=secured)


def _path_of(scope: Scope) -> str:
    """Return the path of a call without the prefix, which a proxy keeps or removes."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    assert isinstance(app, Offramp)
    fresh = asyncio.create_task(app.served.metrics.keep_fresh())
    repository = app.served.repository
    if repository is not None:
        repository.start()
    yield
    try:
        if repository is not None:
            await repository.close()
        await app.drain()
    finally:
        fresh.cancel()
