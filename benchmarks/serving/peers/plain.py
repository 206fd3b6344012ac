"""Minimal FastAPI server: one thread per core, one image at a time.

/classify                full depth, one graph
/staged?budget=medium    naive early exit: one stage after another, until confident enough
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.serving.peers.common import HOST, EarlyExit, FullDepth, setting
from benchmarks.serving.peers.settings import WORKERS

JSON = "application/json"

app = FastAPI()
threads = ThreadPoolExecutor(setting(WORKERS))
full, staged = FullDepth(), EarlyExit()


@app.post("/classify")
async def classify(request: Request) -> Response:
    """Run the whole network."""
    file = await request.body()
    loop = asyncio.get_running_loop()
    return Response(await loop.run_in_executor(threads, full.answer, file), media_type=JSON)


@app.post("/staged")
async def classify_staged(request: Request, budget: str) -> Response:
    """Run stages until a confidence reaches its threshold."""
    file = await request.body()
    loop = asyncio.get_running_loop()
    answer = await loop.run_in_executor(threads, staged.answer, file, budget)
    return Response(answer, media_type=JSON)


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=int(sys.argv[1]), log_level="warning", access_log=False)
