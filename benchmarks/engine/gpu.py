"""Measure the throughput of the engine on a GPU.

    python -m benchmarks.engine.gpu --bundle deploy/bundles/cifar10-msdnet             on CUDA
    python -m benchmarks.engine.gpu --bundle DIR --provider cpu --max-batch 8          same code

- Time of batch sizes that alternate over the time of each size by itself, in the same sessions.
  Convolutions must not be planned again.
- Images per second of the engine (no HTTP, no decoding, several images in a request), at full
  depth and with the exits of `medium`. They are compared with ONNX Runtime on the network to its
  last exit in one graph at its best batch, and with torch in eager mode (fresh weights of the
  bundle's recipe). All take images from the host and return probabilities to the host.
- Bytes copied to the host for each image, and bytes of features that stay on the device.

Rounds are interleaved. Ratios are taken within a round and their median counts. The exit status
is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime as ort
import torch

from benchmarks.engine.gpu_peers import Subject, best_batch, raw_call, torch_call
from benchmarks.engine.loop import (
    DIFFERENT_IMAGES,
    ClosedLoop,
    policy_for_shares,
    run_clients,
)
from benchmarks.goals import Goal, print_goals
from benchmarks.timing import positive_int
from offramp.bundle.manifest import Manifest, read_manifest
from serving.http.app import create_app
from serving.runtime.base import sizes_up_to
from serving.runtime.cuda.runtime import CudaRuntime
from serving.runtime.cuda.slots import CudaSlots, Device
from serving.settings import MAX_BATCH, Provider, Settings

MAX_ALTERNATION = 1.2  # time of alternating sizes over the time of each size by itself
MIN_SHARE_OF_RAW = 0.8  # of raw ONNX Runtime's images per second
BATCHES_IN_FLIGHT = 4
BUDGETS = ("full", "medium")


def alternation_ratios(subject: Subject, rounds: int) -> list[float]:
    """Return for each stage the time of alternating sizes over that of each size by itself."""
    manifest = subject.manifest
    inputs, features = zip(*((s.inputs, s.features) for s in manifest.stages), strict=True)
    pool = CudaSlots(inputs, features, subject.max_batch, subject.device)
    runtime = CudaRuntime(subject.bundle, manifest, pool, subject.max_batch)
    sizes = sizes_up_to(subject.max_batch)
    runtime.warm_up(sizes[-1])
    repeats = max(2, subject.images // sum(sizes))

    def seconds(stage: int, order: list[int]) -> float:
        batches = [pool.gather(stage, list(range(size))) for size in order]
        started = perf_counter()
        for batch in batches:
            runtime.run(stage, batch)
        return perf_counter() - started

    ratios = []
    for stage in range(manifest.exits):
        seconds(stage, sizes)
        found = [
            seconds(stage, sizes * repeats) / seconds(stage, sorted(sizes * repeats))
            for _ in range(rounds)
        ]
        ratios.append(float(np.median(found)))
    return ratios


def engine_rate(subject: Subject, budget: str) -> float:
    """Return the engine's images per second, with the budget's exit shares on held-out images."""
    images = BATCHES_IN_FLIGHT * subject.max_batch
    settings = Settings(
        bundle=subject.bundle,
        provider=subject.device.name,
        device=subject.device.number,
        max_batch=subject.max_batch,
        slots=images + subject.per_request,
        max_images=subject.per_request,
    )
    engine = create_app(settings, on_device=True).state.context.engine
    clients = max(1, images // subject.per_request)
    requests = max(clients, subject.images // subject.per_request)
    sample = subject.random_images(DIFFERENT_IMAGES)
    shares = [share.value for share in subject.manifest.budgets[budget].exit_shares]
    policy = policy_for_shares(subject.bundle, sample, shares)
    load = ClosedLoop(clients, requests, subject.per_request)
    return asyncio.run(run_clients(engine, list(sample), policy, load)).throughput


def rates(subject: Subject, rounds: int) -> dict[str, list[float]]:
    """Return the images per second of engine and peers, by name, [rounds]."""
    peers = {
        "ONNX Runtime": best_batch(subject, lambda size: raw_call(subject, size)),
        "torch": best_batch(subject, lambda size: torch_call(subject, size)),
    }
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for budget in BUDGETS:
            found.setdefault(f"engine, {budget}", []).append(engine_rate(subject, budget))
        for name, best in peers.items():
            if best is not None:
                size, call = best
                found.setdefault(f"{name}, batch {size}", []).append(subject.rate(call, size))
    return found


def print_bytes(manifest: Manifest) -> None:
    """Print the bytes of an image that are copied to the host and those that are not."""
    features = sum(spec.nbytes for stage in manifest.stages for spec in stage.features)
    copied = 4 + 4 * len(manifest.labels)
    print(
        f"bytes copied to the host: {copied} for each evaluated exit; "
        f"features that stay: {features}"
    )


def goals(ratios: list[float], found: dict[str, list[float]]) -> list[Goal]:
    """Return the goals of this benchmark."""
    (raw,) = (values for name, values in found.items() if name.startswith("ONNX Runtime"))
    share = float(np.median(np.array(found["engine, full"]) / np.array(raw)))
    worst = max(ratios)
    return [
        Goal(
            f"alternating sizes / each by itself <= {MAX_ALTERNATION}",
            f"{worst:.2f}",
            worst <= MAX_ALTERNATION,
        ),
        Goal(
            f"engine at full depth / ONNX Runtime >= {MIN_SHARE_OF_RAW}",
            f"{share:.2f}",
            share >= MIN_SHARE_OF_RAW,
        ),
    ]


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description="Measure the throughput of the engine on a GPU.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    bundle = Path("deploy/bundles/cifar10-msdnet")
    option("--bundle", type=Path, default=bundle, help="folder of the bundle")
    option("--provider", choices=("cuda", "cpu"), default="cuda", help="device to measure")
    option("--device", type=int, default=0, help="number of the GPU")
    option("--max-batch", type=positive_int, help="largest batch, by default the server's")
    option("--call", type=positive_int, default=16, help="images in a request")
    option("--images", type=positive_int, default=20_000, help="minimum images in a measurement")
    option("--rounds", type=positive_int, default=5, help="timed rounds")
    return parser


def main() -> int:
    """Run the benchmark and return the exit status, 1 if a goal is missed."""
    arguments = build_parser().parse_args()
    provider: Provider = arguments.provider
    subject = Subject(
        arguments.bundle,
        read_manifest(arguments.bundle),
        Device(provider, arguments.device),
        arguments.max_batch or MAX_BATCH[provider],
        arguments.call,
        arguments.images,
    )
    print(
        f"{provider} {arguments.device}, ONNX Runtime {ort.__version__}, torch {torch.__version__}"
    )
    ratios = alternation_ratios(subject, arguments.rounds)
    print("alternating sizes / each by itself, by stage: " + " ".join(f"{r:.2f}" for r in ratios))
    found = rates(subject, arguments.rounds)
    for name, values in found.items():
        print(f"{name:24} {np.median(values):10.0f} images/s")
    print_bytes(subject.manifest)
    return print_goals(goals(ratios, found))


if __name__ == "__main__":
    sys.exit(main())
