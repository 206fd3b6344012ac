"""Offramp on Ray Serve: `serve run deploy.ray.app:build bundle=/bundles/mine`.

A replica is the whole server: its own bundle in memory, its own engine. The ingress takes HTTP
and hands each call to a replica. Where a replica dies with calls in its hands, the ingress gives
them to another: to classify an image twice does no harm.
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

from serving.app import create_app
from serving.settings import Settings

log = logging.getLogger("ray.serve")
TRIES = 5
PAUSE = 0.1  # seconds before the next try, doubled each time


class Arguments(BaseModel):
    """What `serve run` may be told; the server's other settings come from OFFRAMP_*."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    provider: str = "cpu"
    gpus: float = 0  # of each replica; parts of one share a device
    cpus: float = 1
    threads: int = 1
    min_replicas: int = 2
    max_replicas: int = 8


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request, read whole."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(slots=True)
class Answer:
    """What the server answered."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


async def ask(app: FastAPI, call: Call) -> Answer:
    """The app's answer, without a network between."""
    answer, read, ended = Answer(), asyncio.Event(), asyncio.Event()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query,
        "headers": call.headers,
        "client": None,
        "server": None,
    }

    async def receive() -> dict[str, Any]:
        if read.is_set():
            await ended.wait()  # until then no client hangs up: cancelling does that
            return {"type": "http.disconnect"}
        read.set()
        return {"type": "http.request", "body": call.body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        else:
            answer.body += message.get("body", b"")

    try:
        await app(scope, receive, send)
    finally:
        ended.set()
    return answer


class Replica:
    """One engine. Its health is its readiness; it drains before it goes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._app = create_app(Settings(**settings))

    async def answer(self, call: Call) -> Answer:
        """Answer a call."""
        return await ask(self._app, call)

    def check_health(self) -> None:
        """Called by Ray, which replaces a replica that raises.

        Raises:
            RuntimeError: it takes no requests.
        """
        if not self._app.state.context.engine.ready:
            raise RuntimeError("not ready")


class Ingress:
    """The HTTP side: no engine in it, so that it survives what happens to one."""

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._replicas = replicas

    async def __call__(self, request: Request) -> Response:
        """Whatever the server answers: every path is the server's."""
        call = Call(
            method=request.method,
            path=request.url.path,
            query=request.scope["query_string"],
            headers=request.headers.raw,
            body=await request.body(),
        )
        answer = await self._tried_again(call)
        response = Response(answer.body, answer.status)
        response.raw_headers = answer.headers
        return response

    async def _tried_again(self, call: Call) -> Answer:
        pause = PAUSE
        for _ in range(TRIES - 1):
            try:
                answer: Answer = await self._replicas.answer.remote(call)
            except RayActorError as error:
                log.warning(
                    "a replica died with a call in its hands, which goes to another: %s", error
                )
                await asyncio.sleep(pause)
                pause *= 2
            else:
                return answer
        last: Answer = await self._replicas.answer.remote(call)
        return last


def build(arguments: Arguments) -> serve.Application:
    """The application that `serve run` starts."""
    settings: dict[str, Any] = {
        "bundle": arguments.bundle,
        "provider": arguments.provider,
        "threads": arguments.threads,
    }
    slots = Settings(**settings).slots
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
        graceful_shutdown_timeout_s=Settings(**settings).drain_seconds,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
    )
    ingress = serve.deployment(Ingress).options(
        num_replicas=1,
        max_ongoing_requests=4096,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    )
    return ingress.bind(replica.bind(settings))
