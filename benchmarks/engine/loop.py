"""The real engine in a closed loop in this process: no HTTP, no decoding, exits as wanted."""

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
from serving.runtime.cpu import Runtime
from serving.settings import Order, Settings

NOISE = 256  # different images


@dataclass(frozen=True, slots=True)
class Real:
    """What a run gave: images a second, and seconds of a call."""

    throughput: float
    p50: float
    p99: float


def forced(bundle: Path, images: NDArray[np.uint8], shares: Sequence[float]) -> Policy:
    """Thresholds with which these images leave in these shares."""
    manifest = read_manifest(bundle)
    runtime = Runtime(bundle, manifest)
    known: dict[str, NDArray[np.generic]] = {"image": images}
    inside = np.ones(len(images), dtype=bool)
    thresholds = []
    for stage, share in enumerate(shares):
        output = runtime.run(stage, known)
        assert output.confidence is not None
        known |= output.features
        leaving = min(int(inside.sum()), round(share * len(images)))
        ranked = np.sort(output.confidence[inside])[::-1]
        thresholds.append(float(ranked[leaving - 1]) if leaving else 2.0)
        inside &= output.confidence < thresholds[-1]
    return Policy("numeric", "forced", (*thresholds[:-1], 0.0))


async def drive(
    engine: Engine,
    images: Sequence[NDArray[np.uint8]],
    policy: Policy,
    clients: int,
    calls: int,
    each: int = 1,
) -> Real:
    """Let clients make one call of `each` images after another; the engine is drained then."""
    turns, seconds = iter(range(calls)), []

    async def client() -> None:
        for turn in turns:
            started = perf_counter()
            sent = [images[(turn * each + i) % len(images)] for i in range(each)]
            with engine.admit(each, policy) as slots:
                await engine.classify(slots, sent, policy, started)
            seconds.append(perf_counter() - started)

    started = perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    whole = perf_counter() - started
    await engine.drain()
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return Real(calls * each / whole, float(p50), float(p99))


def run_real(
    bundle: Path,
    shares: Sequence[float],
    threads: int,
    max_batch: int,
    order: Order,
    *,
    rebatch: bool,
    clients: int,
    requests: int,
) -> Real:
    """Build the engine as the server does, and let clients send one request after another."""
    size = read_manifest(bundle).input
    shape = (NOISE, size.height, size.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    settings = Settings(
        bundle=bundle, threads=threads, max_batch=max_batch, order=order, rebatch=rebatch
    )
    engine = create_app(settings).state.service.engine
    policy = forced(bundle, images, shares)
    return asyncio.run(drive(engine, list(images), policy, clients, requests))
