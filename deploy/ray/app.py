"""Run Offramp on Ray Serve: `serve run deploy.ray.app:build bundle=/bundles/mine`.

A replica is a whole server, with its own bundle in memory and its own engine. The ingress accepts
HTTP requests and forwards each to a replica. If a replica dies, the ingress sends its unanswered
requests to another replica. Classifying an image twice has no side effect.

With `models=/models` each replica serves a folder of models. Another `user_config` lets all running
replicas load what changed in the folder (`models.yaml`). No call can change one replica alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from deploy.ray.bounded_body import read_body
from serving.app import create_app
from serving.settings import Settings

log = logging.getLogger("ray.serve")
TRIES = 5
PAUSE = 0.1  # seconds before the next try, doubled each time


class Arguments(BaseModel):
    """Arguments of `serve run`. Other settings of the server come from OFFRAMP_*."""

    model_config = ConfigDict(extra="forbid")

    bundle: str | None = None
    models: str | None = None  # folder of several models, instead of a bundle
    default_model: str | None = None
    keep_previous: bool = False
    provider: str = "cpu"
    gpus: float = 0  # for each replica. A fraction lets several replicas use one device
    cpus: float = 1
    threads: int = 1
    min_replicas: int = 2
    max_replicas: int = 8

    def settings(self) -> dict[str, Any]:
        """Return the settings of the server in each replica."""
        return {
            "bundle": self.bundle,
            "models": self.models,
            "default_model": self.default_model,
            "keep_previous": self.keep_previous,
            "admin_key_file": None,  # a call would change one replica alone
            "provider": self.provider,
            "threads": self.threads,
        }


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request with its whole body."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def scope(self) -> dict[str, Any]:
        """Return the scope of ASGI."""
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "headers": self.headers,
            "client": None,
            "server": None,
        }


@dataclass(slots=True)
class RawResponse:
    """An HTTP response with its whole body."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


async def call_app(app: FastAPI, call: Call) -> RawResponse:
    """Send a request to the ASGI app in this process and return the response."""
    response, read, ended = RawResponse(), asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if read.is_set():
            await ended.wait()  # a disconnect cancels this coroutine instead
            return {"type": "http.disconnect"}
        read.set()
        return {"type": "http.request", "body": call.body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            response.status, response.headers = message["status"], list(message["headers"])
        else:
            response.body += message.get("body", b"")

    try:
        await app(call.scope(), receive, send)
    finally:
        ended.set()
    return response


class Replica:
    """A server with one engine. It is healthy while it is ready, and it drains before it stops."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._app = create_app(Settings(**settings))

    async def handle(self, call: Call) -> RawResponse:
        """Send a request to this replica's app and return the response."""
        return await call_app(self._app, call)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Load what changed in the folder of models, because the configuration has another value.

        Failures are in the log and in the index, and what served before still does.
        """
        repository = self._app.served.repository
        if repository is not None:
            log.info("reloading: %s", user_config)
            await repository.reload()

    def check_health(self) -> None:
        """Check the readiness for Ray, which replaces a replica that raises.

        Raises:
            RuntimeError: The engine accepts no requests.
        """
        if self._app.served.refusal is not None:
            raise RuntimeError("not ready")


class Ingress:
    """The HTTP side. It has no engine, so it survives the failure of one."""

    def __init__(self, replicas: DeploymentHandle, max_body_bytes: int) -> None:
        self._replicas = replicas
        self._max_body_bytes = max_body_bytes

    async def __call__(self, request: Request) -> Response:
        """Forward a request on any path to a replica and return the response."""
        call = Call(
            method=request.method,
            path=request.url.path,
            query=request.scope["query_string"],
            headers=request.headers.raw,
            body=await read_body(request, self._max_body_bytes),
        )
        raw = await self._send_with_retries(call)
        response = Response(raw.body, raw.status)
        response.raw_headers = raw.headers
        return response

    async def _send_with_retries(self, call: Call) -> RawResponse:
        pause = PAUSE
        for _ in range(TRIES - 1):
            try:
                response: RawResponse = await self._replicas.handle.remote(call)
            except RayActorError as error:
                log.warning("a replica died, its request is sent to another: %s", error)
                await asyncio.sleep(pause)
                pause *= 2
            else:
                return response
        last: RawResponse = await self._replicas.handle.remote(call)
        return last


def build(arguments: Arguments) -> serve.Application:
    """Build the application that `serve run` starts."""
    settings = arguments.settings()
    read = Settings(**settings)
    slots = read.slots
    replica = serve.deployment(Replica).options(
        max_ongoing_requests=slots,
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": arguments.max_replicas,
            "target_ongoing_requests": slots / 4,
        },
        logging_config={"enable_access_log": False},
        health_check_period_s=5,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=read.drain_seconds,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
    )
    ingress = serve.deployment(Ingress).options(
        num_replicas=1,
        max_ongoing_requests=4096,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    )
    return ingress.bind(replica.bind(settings), read.max_body_bytes)
