"""How many answers a second do the stages alone allow?

ONNX Runtime in a tight loop, the same graphs and exits as the server, full batches, nothing
else: no HTTP, no decoding, no copying between stages (every batch's inputs lie ready). The images
in the loop leave at each exit in the shares in which all that are sent do. Also the whole
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
from benchmarks.serving.generator.images import load_images
from benchmarks.serving.generator.outcomes import Integers
from benchmarks.serving.offline import Chain, Opinions, Pixels, evaluate, pixels
from benchmarks.serving.servers.commands import EQUAL, cores
from benchmarks.serving.servers.graphs import full_depth
from benchmarks.serving.servers.subject import equal_budget
from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.policy import resolve
from serving.runtime.cpu import CpuRuntime

BATCH = 8  # beyond which batches bring nothing on a CPU
IMAGES = 512  # whose way through the stages is gone
KEPT = 4  # batches of each stage that lie ready: more would leave the caches
Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Limit:
    """What the model alone can do.

    Args:
        rate: answers a second, all threads together.
        cpu: milliseconds of CPU an answer.
    """

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Work:
    """Calls that answer a number of images."""

    calls: Sequence[Call]
    answers: int


def sample(exits: Integers, count: int) -> Integers:
    """About `count` of the images that leave at these exits, [N]; each exit has its share."""
    by_exit = np.argsort(exits, kind="stable")
    return by_exit[np.arange(count) * len(exits) // count]


def staged(runtime: CpuRuntime, thresholds: Sequence[float], images: Pixels) -> Work:
    """Each stage's batches for those images that come to it, full but for the last of each.

    As many as there would be; what is in them comes again after `KEPT`, for it costs the same.
    """
    calls: list[Call] = []
    for k, said in enumerate(Chain(runtime).run(images, thresholds)):
        count = len(next(iter(said.inputs.values())))
        kept = {n: np.ascontiguousarray(t[: KEPT * BATCH]) for n, t in said.inputs.items()}
        for start in range(0, count, BATCH):
            first = start % (KEPT * BATCH)
            part = {n: t[first : first + min(BATCH, count - start)] for n, t in kept.items()}
            calls.append(_call(runtime, k, part, head=said.confidence is not None))
    return Work(calls, len(images))


def _call(
    runtime: CpuRuntime, stage: int, inputs: Mapping[str, NDArray[np.generic]], *, head: bool
) -> Call:
    return lambda: runtime.run(stage, inputs, head=head)


def whole(folder: Path, manifest: Manifest, images: Pixels, batch: int = BATCH) -> Work:
    """The network at full depth, in one graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = full_depth(folder, manifest).SerializeToString()
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def call(part: Pixels) -> Call:
        return lambda: session.run(None, {"image": part})

    return Work(
        [call(images[start : start + batch]) for start in range(0, len(images), batch)], len(images)
    )


def measure(work: Work, threads: int, seconds: float) -> Limit:
    """Let threads go through all calls, again and again, for so many seconds."""
    done: list[tuple[float, float, float]] = []
    barrier = threading.Barrier(threads)

    def loop(first: int) -> None:
        order = np.random.default_rng(first).permutation(len(work.calls)).tolist()
        barrier.wait()
        cpu, start, calls = time.thread_time(), time.perf_counter(), 0
        while (wall := time.perf_counter() - start) < seconds:
            work.calls[order[calls % len(order)]]()
            calls += 1
        done.append((calls / len(order), wall, time.thread_time() - cpu))

    workers = [threading.Thread(target=loop, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rate = sum(rounds * work.answers / wall for rounds, wall, _ in done)
    answers = sum(rounds for rounds, _, _ in done) * work.answers
    return Limit(rate, 1e3 * sum(cpu for _, _, cpu in done) / answers)


class Limits:
    """The limits of a bundle, to be measured again in every round.

    Args:
        folder: of the bundle.
        asked: budgets, by the names that they are to have.
        images: all that are sent.
        opinions: on each of them.
    """

    def __init__(
        self, folder: Path, asked: Mapping[str, str], images: Pixels, opinions: Opinions
    ) -> None:
        manifest = read_manifest(folder)
        runtime = CpuRuntime(folder, manifest)
        self.work = {WHOLE: whole(folder, manifest, images[:IMAGES])}
        for name, budget in asked.items():
            thresholds = resolve(manifest, budget).thresholds
            chosen = sample(opinions.exits(thresholds), min(IMAGES, len(images)))
            self.work[name] = staged(runtime, thresholds, images[chosen])

    def measure(self, seconds: float) -> dict[str, Limit]:
        """Each budget's, and that of WHOLE."""
        return {name: measure(work, cores(), seconds) for name, work in self.work.items()}


def single(folder: Path, manifest: Manifest, images: Pixels) -> float:
    """Seconds of one image at full depth, one thread, nothing beside it; median of 5 rounds."""
    work = whole(folder, manifest, images[:IMAGES], batch=1)
    return float(np.median([1 / measure(work, 1, 1.0).rate for _ in range(5)]))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="What do the stages alone allow?")
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/cifar10-msdnet"))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    manifest: Manifest = read_manifest(arguments.bundle)
    images = pixels(load_images(arguments.data, manifest).files, manifest)
    asked = {MEDIUM: MEDIUM, EQUAL: equal_budget(manifest), FULL: FULL}
    opinions = evaluate(arguments.bundle, manifest, images)
    limits = Limits(arguments.bundle, asked, images, opinions)
    for name, limit in limits.measure(arguments.seconds).items():
        print(f"{name:12} {limit.rate:8.1f} answers/s   {limit.cpu:6.2f} CPU ms an answer")
    print(f"one image at full depth: {1e3 * single(arguments.bundle, manifest, images):.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
