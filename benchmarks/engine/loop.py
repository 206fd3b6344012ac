"""Run the real engine in this process in a closed loop: no HTTP, no decoding, chosen exits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import read_manifest
from serving.engine.engine import Engine
from serving.engine.policy import Policy
from serving.http.app import create_app
from serving.runtime.cpu import CpuRuntime
from serving.settings import Settings

DIFFERENT_IMAGES = 256


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Clients that send their next request when the previous one is answered.

    Attributes:
        clients: Number of clients.
        requests: Number of requests of all clients together.
        images: Images in a request.
    """

    clients: int
    requests: int
    images: int = 1


@dataclass(frozen=True, slots=True)
class EngineResult:
    """Throughput in images per second, and latency quantiles of a request in seconds."""

    throughput: float
    p50: float
    p99: float


def policy_for_shares(bundle: Path, images: NDArray[np.uint8], shares: Sequence[float]) -> Policy:
    """Return thresholds with which these images leave at the exits in these shares.

    Args:
        bundle: Folder of a bundle.
        images: Images uint8 [N, H, W, 3] that are sent later.
        shares: Share of the images for each exit.
    """
    manifest = read_manifest(bundle)
    runtime = CpuRuntime(bundle, manifest)
    known: dict[str, NDArray[np.generic]] = {"image": images}
    remaining = np.ones(len(images), dtype=bool)
    thresholds = []
    for stage, share in enumerate(shares):
        output = runtime.run(stage, known)
        assert output.confidence is not None
        known |= output.features
        leaving = min(int(remaining.sum()), round(share * len(images)))
        ranked = np.sort(output.confidence[remaining])[::-1]
        thresholds.append(float(ranked[leaving - 1]) if leaving else 2.0)
        remaining &= output.confidence < thresholds[-1]
    return Policy("numeric", "forced", (*thresholds[:-1], 0.0))


async def run_clients(
    engine: Engine, images: Sequence[NDArray[np.uint8]], policy: Policy, load: ClosedLoop
) -> EngineResult:
    """Send the requests of a closed loop to an engine, then drain the engine."""
    numbers, seconds = iter(range(load.requests)), []

    async def client() -> None:
        for number in numbers:
            started = perf_counter()
            first = number * load.images
            batch = [images[(first + i) % len(images)] for i in range(load.images)]
            with engine.admit(load.images, policy) as slots:
                await engine.classify(slots, batch, policy, started)
            seconds.append(perf_counter() - started)

    started = perf_counter()
    await asyncio.gather(*(client() for _ in range(load.clients)))
    elapsed = perf_counter() - started
    await engine.drain()
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return EngineResult(load.requests * load.images / elapsed, float(p50), float(p99))


def run_engine(settings: Settings, shares: Sequence[float], load: ClosedLoop) -> EngineResult:
    """Build the engine as the server does, and run a closed loop of random images.

    Args:
        settings: Settings of the server.
        shares: Share of the images that leave at each exit.
        load: Clients and requests.
    """
    bundle = settings.folder
    size = read_manifest(bundle).input
    shape = (DIFFERENT_IMAGES, size.height, size.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    engine = create_app(settings).state.context.engine
    policy = policy_for_shares(bundle, images, shares)
    return asyncio.run(run_clients(engine, list(images), policy, load))
