"""The two ways of images through a bundle in this process, and the choice between them."""

from __future__ import annotations

from collections.abc import Iterator

from offramp.bundle.manifest import Manifest
from offramp.in_process.chunk_threads import ChunkThreads
from offramp.in_process.engine_thread import EngineThread
from offramp.in_process.outcomes import Outcome
from offramp.inputs.images import ImageSource
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.policy import Policy
from serving.engine.start.assembly import build_engine
from serving.settings import Settings


class Runner:
    """Runs images in chunks, or through the engine of the server.

    The engine keeps deadlines, and fills the batches of a GPU with the images of all calls. On a
    CPU chunks have a higher throughput, because a batch costs no queue and no change of thread.

    Args:
        settings: Settings of both.
        manifest: Manifest of the bundle `settings.bundle`.

    Attributes:
        milliseconds: Operating points by the times of this machine.

    Raises:
        BundleError: The bundle is damaged, or of another format.
        ProviderError: The provider is not available.
    """

    def __init__(self, settings: Settings, manifest: Manifest) -> None:
        engine, _ = build_engine(settings, manifest)
        self.milliseconds = Milliseconds(manifest, engine.latency)
        self._engine = EngineThread(engine, manifest.input, settings)
        self._chunks: ChunkThreads | None = None
        if settings.provider == "cpu":
            measured = settings.model_copy(update={"max_batch": engine.max_batch})
            runtime = engine.stage_threads.runtime
            self._chunks = ChunkThreads(runtime, manifest, measured, engine.latency)

    def stream(
        self, images: Iterator[ImageSource], policy: Policy, arrived: float | None = None
    ) -> Iterator[Outcome]:
        """Run images, and yield the outcome of each in their order.

        Args:
            images: Images. They are read a bounded number ahead.
            policy: The policy of each of them.
            arrived: Time from which deadlines count, by `time.perf_counter`. `None`: the time when
                the decoding of each image starts.

        Raises:
            NotReadyError: This runner is closed.
        """
        if self._chunks is not None and policy.deadline is None:
            return self._chunks.stream(images, policy, arrived)
        return self._engine.stream(images, policy, arrived)

    def close(self) -> None:
        """Wait for the images under way, then stop all threads. A second call does nothing."""
        if self._chunks is not None:
            self._chunks.close()
        self._engine.close()
