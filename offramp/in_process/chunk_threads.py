"""Threads that take chunks of images from their files to their answers, for the highest throughput.

A chunk stays in one thread: it is decoded there and runs through all stages there. No image waits
for another chunk, and threads meet twice in a chunk instead of several times in a batch. Images
with a deadline, and those on a GPU, run in the engine instead (`engine_thread`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import length_hint
from queue import SimpleQueue
from time import perf_counter

from offramp.bundle.manifest import Manifest
from offramp.errors import OfframpError
from offramp.in_process.chunk_runner import ChunkRunner
from offramp.in_process.outcomes import CLOSED, Outcome, load, outcomes_of, stream_chunks
from offramp.inputs.images import ImageSource, Pixels
from serving.engine.latency import Latency
from serving.engine.outcomes import FAILED
from serving.engine.policy import Policy
from serving.engine.request import Answer
from serving.errors import NotReadyError, StageError
from serving.runtime.base import Runtime
from serving.settings import Settings

BATCHES = 8  # of a chunk: enough for large batches of the later stages, which few images reach
LEAST = 4  # images of a chunk, if there are as many: smaller batches take longer for each image
AHEAD = 2  # chunks that wait for a thread
log = logging.getLogger(__name__)


class ChunkThreads:
    """Runs the chunks of all calls, in the order of their arrival.

    Args:
        runtime: The stages, on the CPU.
        manifest: Manifest of their bundle.
        settings: Number of threads, of images at the same time, and of images in a batch.
        latency: Times of the stages, to which those of each batch are added. `None`: they are not.
    """

    def __init__(
        self,
        runtime: Runtime,
        manifest: Manifest,
        settings: Settings,
        latency: Latency | None = None,
    ) -> None:
        self._target = manifest.input
        self._settings = settings
        self._count = min(settings.threads, settings.slots)
        self._most = min(BATCHES * settings.max_batch, settings.slots // self._count)
        self._runners: SimpleQueue[ChunkRunner] = SimpleQueue()
        for _ in range(self._count):
            runner = ChunkRunner(runtime, manifest, self._most, settings.max_batch, latency)
            self._runners.put(runner)
        self._executor = ThreadPoolExecutor(self._count, "chunk")

    def stream(
        self, images: Iterator[ImageSource], policy: Policy, arrived: float | None = None
    ) -> Iterator[Outcome]:
        """Run images, a bounded number at a time.

        Args:
            images: Images. They are read a bounded number ahead.
            policy: The policy of each of them. It has no deadline.
            arrived: Time of arrival by `time.perf_counter`. `None`: the time when each chunk was
                read.

        Yields:
            The outcome of each image, in their order.

        Raises:
            NotReadyError: The threads are closed.
        """
        return stream_chunks(
            images,
            self._size(length_hint(images, self._most * self._count)),
            self._count + AHEAD,
            lambda chunk: self._submit(chunk, policy, arrived),
        )

    def close(self) -> None:
        """Wait for the images in the threads, then stop them. A second call does nothing."""
        self._executor.shutdown()

    def _size(self, images: int) -> int:
        """Return a size of chunks of which every thread gets the same number."""
        chunks = -(-images // (self._most * self._count)) * self._count
        return min(self._most, max(LEAST, -(-images // max(1, chunks))))

    def _submit(
        self, chunk: Sequence[ImageSource], policy: Policy, arrived: float | None
    ) -> Future[list[Outcome]]:
        since = perf_counter() if arrived is None else arrived
        try:
            return self._executor.submit(self._run, chunk, policy, since)
        except RuntimeError as error:  # it was shut down
            raise NotReadyError(CLOSED) from error

    def _run(self, chunk: Sequence[ImageSource], policy: Policy, arrived: float) -> list[Outcome]:
        started = perf_counter()
        loaded = [load(each, self._target, self._settings) for each in chunk]
        decode_seconds = perf_counter() - started
        pixels = [each for each in loaded if not isinstance(each, OfframpError)]
        answers = self._classify(pixels, policy, arrived)
        return outcomes_of(loaded, answers, decode_seconds)

    def _classify(
        self, pixels: Sequence[Pixels], policy: Policy, arrived: float
    ) -> Sequence[Answer | StageError]:
        if not pixels:
            return []
        runner = self._runners.get()
        try:
            return runner.run(pixels, policy, arrived)
        except Exception:
            log.exception("a stage failed with a chunk of %d images", len(pixels))
            if len(pixels) == 1:
                return [StageError(FAILED)]
        finally:
            self._runners.put(runner)
        # One image can fail a whole batch. Each alone tells which one did.
        return [answer for each in pixels for answer in self._classify([each], policy, arrived)]
