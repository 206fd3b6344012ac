"""BentoML: a worker process a core. `bentoml serve` finds `Classifier` here.

Its own way of taking a file writes each to disk; an ASGI app inside the service does not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serving.peers.common import FullDepth, setting
from benchmarks.serving.peers.settings import WORKERS

model = FullDepth()
thread = ThreadPoolExecutor(1)


async def classify(request: Request) -> Response:
    """One image file as the body."""
    file = await request.body()
    answer = await asyncio.get_running_loop().run_in_executor(thread, model.answer, file)
    return Response(answer, media_type="application/json")


@bentoml.service(
    workers=setting(WORKERS), metrics={"enabled": False}, logging={"access": {"enabled": False}}
)
@bentoml.asgi_app(Starlette(routes=[Route("/classify", classify, methods=["POST"])]))
class Classifier:
    """The network at full depth."""
