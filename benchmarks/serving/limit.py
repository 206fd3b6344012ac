"""Measure the throughput of the stages alone, the upper limit of a server.

ONNX Runtime in a tight loop, with the server's graphs and exits and full batches. There is no
HTTP, no decoding and no copy between stages: the inputs of every batch are prepared. The images
in the loop leave at each exit in the same shares as all sent images. Also measures the whole
network in one graph, from the image to the last exit.

    python -m benchmarks.serving.limit --bundle deploy/bundles/cifar10-msdnet --data cifar10
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.serving.figures import FULL, MEDIUM, WHOLE
from benchmarks.serving.offline import Chain, ExitOutputs, Pixels, evaluate, pixels
from benchmarks.serving.servers.commands import EQUAL
from benchmarks.serving.servers.graphs import full_depth
from benchmarks.serving.servers.images import load_images
from benchmarks.serving.servers.subject import SHIPPED, equal_budget
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.cores import cores
from offramp.load.outcomes import Integers
from serving.engine.policy import resolve
from serving.runtime.cpu import CpuRuntime

BATCH = 8  # images; larger batches are not faster on a CPU
IMAGES = 512  # images in the loop
PREPARED = 4  # prepared batches of each stage; more would not fit into the caches
RunBatch = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Limit:
    """Throughput of the model alone.

    Attributes:
        rate: Answers per second, all threads together.
        cpu: CPU milliseconds per answer.
    """

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Work:
    """Batches of all stages that together classify a number of images.

    Attributes:
        batches: Functions that run one batch each.
        answers: Number of images.
    """

    batches: Sequence[RunBatch]
    answers: int


def sample(exits: Integers, count: int) -> Integers:
    """Choose `count` images in which each exit keeps its share.

    Args:
        exits: Exit of each image, [N].
        count: Number of images to choose.

    Returns:
        Indices of the chosen images, [count].
    """
    by_exit = np.argsort(exits, kind="stable")
    return by_exit[np.arange(count) * len(exits) // count]


def staged(
    runtime: CpuRuntime, thresholds: Sequence[float], images: Pixels, batch: int = BATCH
) -> Work:
    """Prepare the batches of each stage for the images that reach it.

    Their number is that of a server with full batches. Their contents repeat after `PREPARED`
    batches, which costs the same.
    """
    batches: list[RunBatch] = []
    for k, run in enumerate(Chain(runtime).run(images, thresholds)):
        count = len(next(iter(run.inputs.values())))
        prepared = {n: np.ascontiguousarray(t[: PREPARED * batch]) for n, t in run.inputs.items()}
        for start in range(0, count, batch):
            first = start % (PREPARED * batch)
            part = {n: t[first : first + min(batch, count - start)] for n, t in prepared.items()}
            batches.append(_run_batch(runtime, k, part, head=run.confidence is not None))
    return Work(batches, len(images))


def _run_batch(
    runtime: CpuRuntime, stage: int, inputs: Mapping[str, NDArray[np.generic]], *, head: bool
) -> RunBatch:
    return lambda: runtime.run(stage, inputs, head=head)


def whole(folder: Path, manifest: Manifest, images: Pixels, batch: int = BATCH) -> Work:
    """Prepare batches of the network at full depth, in one graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = full_depth(folder, manifest).SerializeToString()
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run_batch(part: Pixels) -> RunBatch:
        return lambda: session.run(None, {"image": part})

    return Work(
        [run_batch(images[start : start + batch]) for start in range(0, len(images), batch)],
        len(images),
    )


def _run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(work: Work, threads: int, seconds: float) -> Limit:
    """Run all batches repeatedly on a number of threads, for at least a number of seconds.

    Each thread ends after a whole round. A part of one would be other stages than the whole.
    """
    done: list[tuple[float, float, float]] = []
    barrier = threading.Barrier(threads)

    def loop(first: int) -> None:
        order = np.random.default_rng(first).permutation(len(work.batches)).tolist()
        barrier.wait()
        cpu, start, count = time.thread_time(), time.perf_counter(), 0
        while (wall := time.perf_counter() - start) < seconds or count % len(order):
            work.batches[order[count % len(order)]]()
            count += 1
        done.append((count / len(order), wall, time.thread_time() - cpu))

    _run_all([threading.Thread(target=loop, args=(i,)) for i in range(threads)])
    rate = sum(rounds * work.answers / wall for rounds, wall, _ in done)
    answers = sum(rounds for rounds, _, _ in done) * work.answers
    return Limit(rate, 1e3 * sum(cpu for _, _, cpu in done) / answers)


class Limits:
    """Limits of a bundle, measured in every round.

    Args:
        folder: Folder of the bundle.
        budgets: Budgets by name.
        images: All sent images, uint8 [N, H, W, 3].
        outputs: Outputs of every exit for them.
    """

    def __init__(
        self, folder: Path, budgets: Mapping[str, str], images: Pixels, outputs: ExitOutputs
    ) -> None:
        manifest = read_manifest(folder)
        runtime = CpuRuntime(folder, manifest)
        self.work = {WHOLE: whole(folder, manifest, images[:IMAGES])}
        for name, budget in budgets.items():
            thresholds = resolve(manifest, budget).thresholds
            chosen = sample(outputs.exits(thresholds), min(IMAGES, len(images)))
            self.work[name] = staged(runtime, thresholds, images[chosen])

    def measure(self, seconds: float) -> dict[str, Limit]:
        """Measure the limit of each budget, and of WHOLE."""
        return {name: measure(work, cores(), seconds) for name, work in self.work.items()}


def single(folder: Path, manifest: Manifest, images: Pixels) -> float:
    """Return the seconds of one image at full depth on one thread, the median of 5 rounds."""
    work = whole(folder, manifest, images[:IMAGES], batch=1)
    return float(np.median([1 / measure(work, 1, 1.0).rate for _ in range(5)]))


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure the throughput of the stages alone.")
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help="folder of the bundle")
    parser.add_argument("--data", default="cifar10", help="hub name, parquet or folder of images")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds for each budget")
    arguments = parser.parse_args()
    manifest: Manifest = read_manifest(arguments.bundle)
    images = pixels(load_images(arguments.data, manifest).files, manifest)
    budgets = {MEDIUM: MEDIUM, EQUAL: equal_budget(manifest), FULL: FULL}
    outputs = evaluate(arguments.bundle, manifest, images)
    limits = Limits(arguments.bundle, budgets, images, outputs)
    for name, limit in limits.measure(arguments.seconds).items():
        print(f"{name:12} {limit.rate:8.1f} answers/s   {limit.cpu:6.2f} CPU ms per answer")
    print(f"one image at full depth: {1e3 * single(arguments.bundle, manifest, images):.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
