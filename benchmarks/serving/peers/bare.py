"""Measure the cost of HTTP alone: the smallest app under uvicorn that reads a body and sends JSON.

It decodes no image and runs no model. The cost of our server beyond this one and the limit is its
own overhead.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.types import Receive, Scope, Send

from benchmarks.serving.peers.common import HOST, setting
from benchmarks.serving.peers.settings import WORKERS

ANSWER = b'{"answers": [{"index": 0, "probability": 0.5, "exit": 1, "flops": 0}]}'
HEADERS = [(b"content-length", b"%d" % len(ANSWER)), (b"content-type", b"application/json")]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read any request and send the same response."""
    assert scope["type"] == "http"  # lifespan is off
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.serving.peers.bare:app",  # by name, so that workers can import it
        host=HOST,
        port=int(sys.argv[1]),
        workers=setting(WORKERS),
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
