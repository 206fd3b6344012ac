"""What does the engine make of a GPU?

    python -m benchmarks.engine.gpu --bundle deploy/bundles/cifar10-msdnet             on CUDA
    python -m benchmarks.engine.gpu --bundle DIR --provider cpu --max-batch 8          the same path

- Batch sizes that take turns against each by itself, in the same sessions: convolutions must not
  plan anew.
- Images a second through the engine (no HTTP, no decoding; calls of several images), at full
  depth and with the exits of `medium`, against ONNX Runtime on the network to its last exit in
  one graph at its best batch, and against torch in eager mode (fresh weights of the bundle's
  recipe). All are given images on the host, and give probabilities to the host.
- Bytes that an image sends to the host, beside those of the features that stay.

Rounds are interleaved; ratios are taken within a round and their median counts. Exit status 1 if
a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from benchmarks.engine.loop import NOISE, drive, forced
from benchmarks.goals import Goal, print_goals
from benchmarks.serving.servers.graphs import full_depth
from benchmarks.timing import positive
from offramp.bundle.manifest import Manifest, read_manifest
from serving.http.app import create_app
from serving.runtime.base import sizes_up_to
from serving.runtime.cuda import DeviceRuntime
from serving.runtime.cuda_graph import with_slot_rows
from serving.runtime.cuda_slots import Device, DevicePool
from serving.runtime.session import Provider, open_session
from serving.settings import MAX_BATCH, Settings
from training.errors import TrainingError
from training.fit.checkpoint import new_network
from training.recipes import Recipe

TURNS = 1.2  # of the time that each size takes by itself
OF_RAW = 0.8  # of raw ONNX Runtime's images a second
UNDER_WAY = 4  # batches
BUDGETS = ("full", "medium")
Images = NDArray[np.uint8]
Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, and how much of it.

    Args:
        call: images in a call to the engine.
        images: in each measurement, at least.
    """

    bundle: Path
    manifest: Manifest
    device: Device
    max_batch: int
    call: int
    images: int

    def noise(self, count: int) -> Images:
        """Images, uint8 [count, H, W, 3]."""
        size = self.manifest.input
        shape = (count, size.height, size.width, 3)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def rate(self, call: Call, batch: int) -> float:
        """Images a second of a call that takes a batch."""
        call()
        calls = -(-self.images // batch)
        started = perf_counter()
        for _ in range(calls):
            call()
        return calls * batch / (perf_counter() - started)


def turns(subject: Subject, rounds: int) -> list[float]:
    """For each stage, the time of sizes that take turns over that of each by itself."""
    manifest = subject.manifest
    inputs, features = zip(*((s.inputs, s.features) for s in manifest.stages), strict=True)
    pool = DevicePool(inputs, features, subject.max_batch, subject.device)
    runtime = DeviceRuntime(subject.bundle, manifest, pool, subject.max_batch)
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
    """Images a second through the engine, with the exits that the budget has on held-out images."""
    images = UNDER_WAY * subject.max_batch
    settings = Settings(
        bundle=subject.bundle,
        provider=subject.device.name,
        device=subject.device.number,
        max_batch=subject.max_batch,
        slots=images + subject.call,
        max_images=subject.call,
    )
    engine = create_app(settings, on_device=True).state.service.engine
    clients = max(1, images // subject.call)
    calls = max(clients, subject.images // subject.call)
    noise = subject.noise(NOISE)
    shares = [share.value for share in subject.manifest.budgets[budget].exit_shares]
    policy = forced(subject.bundle, noise, shares)
    return asyncio.run(drive(engine, list(noise), policy, clients, calls, subject.call)).throughput


def raw_call(subject: Subject, batch: int) -> Call:
    """One batch through the network to its last exit, in one graph of that batch size."""
    device, images = subject.device, subject.noise(batch)
    model = with_slot_rows(full_depth(subject.bundle, subject.manifest), [], [], 1, batch)
    del model.graph.input[0]  # the slots, of which nothing here knows
    session = open_session(subject.bundle, model, device.providers)
    given = device.tensor(images.shape, "uint8")
    said = device.tensor((batch, len(subject.manifest.labels)), "float32")
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, given)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, said)

    def call() -> None:
        given.update_inplace(images)
        session.run_with_iobinding(binding)
        said.numpy()

    return call


def torch_call(subject: Subject, batch: int) -> Call | None:
    """The same in torch, in eager mode; None where the bundle names no recipe of ours."""
    manifest = subject.manifest
    try:
        recipe = Recipe.parse(
            manifest.provenance.config, option="provenance.config", name="a recipe"
        )
        network = new_network(recipe, len(manifest.labels)).eval()
    except TrainingError:
        return None
    where = torch.device(subject.device.name, subject.device.number)
    network = network.to(where)
    images = torch.from_numpy(subject.noise(batch))

    @torch.inference_mode()
    def call() -> None:
        features = [network.normalize(images.to(where))]
        for stage in network.stages:
            features = stage(features)
        torch.softmax(network.heads[-1](features[-1]), dim=1).cpu()

    return call


def best_batch(subject: Subject, make: Callable[[int], Call | None]) -> tuple[int, Call] | None:
    """The batch size with the most images a second."""
    calls = {size: make(size) for size in sizes_up_to(subject.max_batch)}
    rates = {size: subject.rate(call, size) for size, call in calls.items() if call is not None}
    if not rates:
        return None
    best = max(rates, key=lambda size: rates[size])
    call = calls[best]
    assert call is not None
    return best, call


def rates(subject: Subject, rounds: int) -> dict[str, list[float]]:
    """Images a second of each, round by round."""
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
    """What crosses to the host, and what does not."""
    features = [spec for stage in manifest.stages for spec in stage.features]
    stay = sum(spec.nbytes for spec in features)
    said = 4 + 4 * len(manifest.labels)
    print(f"bytes to the host: {said} for each exit that is asked; {stay} of features stay")


def goals(ratios: list[float], found: dict[str, list[float]]) -> list[Goal]:
    """What was to be shown."""
    (raw,) = (values for name, values in found.items() if name.startswith("ONNX Runtime"))
    share = float(np.median(np.array(found["engine, full"]) / np.array(raw)))
    worst = max(ratios)
    return [
        Goal(f"sizes in turn / each by itself <= {TURNS}", f"{worst:.2f}", worst <= TURNS),
        Goal(f"engine at full depth / ONNX Runtime >= {OF_RAW}", f"{share:.2f}", share >= OF_RAW),
    ]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="What does the engine make of a GPU?")
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/cifar10-msdnet"))
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--max-batch", type=positive, help="default: as of the server")
    parser.add_argument("--call", type=positive, default=16, help="images in a call")
    parser.add_argument("--images", type=positive, default=20_000, help="in each measurement")
    parser.add_argument("--rounds", type=positive, default=5)
    arguments = parser.parse_args()
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
    ratios = turns(subject, arguments.rounds)
    print("sizes in turn / each by itself, by stage: " + " ".join(f"{r:.2f}" for r in ratios))
    found = rates(subject, arguments.rounds)
    for name, values in found.items():
        print(f"{name:24} {np.median(values):10.0f} images/s")
    print_bytes(subject.manifest)
    return print_goals(goals(ratios, found))


if __name__ == "__main__":
    sys.exit(main())
