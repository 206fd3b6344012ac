"""BentoML with one worker process per core. `bentoml serve` loads `Classifier` from here.

Its own file inputs write each file to disk. An ASGI app inside the service does not.
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
    """Classify the image file in the body."""
    file = await request.body()
    answer = await asyncio.get_running_loop().run_in_executor(thread, model.answer, file)
    return Response(answer, media_type="application/json")


@bentoml.service(
    workers=setting(WORKERS), metrics={"enabled": False}, logging={"access": {"enabled": False}}
)
@bentoml.asgi_app(Starlette(routes=[Route("/classify", classify, methods=["POST"])]))
class Classifier:
    """Network at full depth."""
