"""What HTTP alone costs under uvicorn: the smallest app that reads a body and answers JSON.

No image is decoded and no model runs: what our server takes beyond this and the limit is its own.
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
    """Answer whatever comes."""
    assert scope["type"] == "http"  # there is no lifespan
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.serving.peers.bare:app",  # by its name, for workers to find it
        host=HOST,
        port=int(sys.argv[1]),
        workers=setting(WORKERS),
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
