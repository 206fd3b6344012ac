"""FastAPI as one writes it in an afternoon: a thread for each core, every image by itself.

/classify                full depth, one graph
/staged?budget=medium    one stage after another, until sure enough: naive early exit
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
    """Run stages until one is sure enough."""
    file = await request.body()
    loop = asyncio.get_running_loop()
    answer = await loop.run_in_executor(threads, staged.answer, file, budget)
    return Response(answer, media_type=JSON)


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=int(sys.argv[1]), log_level="warning", access_log=False)
