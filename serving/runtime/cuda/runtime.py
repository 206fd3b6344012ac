"""The stages of a bundle on CUDA: they read and write rows of the device's memory (`slots`).

Each stage has one session for each batch size, with its head and without. A convolution keeps the
plan for one shape only, so in a common session sizes that alternate would plan again each time.
Batches are filled up to the next size. All sessions of a stage use the same weights.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from offramp.bundle.graphs import SCORE
from offramp.bundle.manifest import Manifest
from serving.runtime.base import MOST_CLASSES, Runtime, StageOutput, Tensors, sizes_up_to
from serving.runtime.cuda.graph import CONFIDENCE, PROBABILITIES, RANKED, SLOTS, with_slot_rows
from serving.runtime.cuda.lanes import Lanes, Results, Task
from serving.runtime.cuda.slots import CudaSlots
from serving.runtime.session import common_weights, open_session
from serving.runtime.stage import Loaded, load_stage, mark_non_finite

PARALLEL_BATCHES = 2  # the device computes one while the host prepares or reads the other


class CudaStage:
    """The sessions of one stage, on rows.

    Args:
        path: File of its graph, for error messages.
        loaded: The stage as it is in the bundle.
        pool: Slots with its features.
        sizes: Batch sizes, ascending.
        classes: Number of classes.

    Attributes:
        lanes: Lanes for each batch size, with the head and without.

    Raises:
        ProviderError: The provider is not available, or cannot run the stage.
    """

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        pool: CudaSlots,
        sizes: Sequence[int],
        classes: int,
    ) -> None:
        self.inputs, self.features = loaded.stage.inputs, loaded.stage.features
        self._path, self._pool = path, pool
        self._sizes, self._classes = sizes, classes
        self._ranked = MOST_CLASSES if classes > MOST_CLASSES else None
        self._weights = common_weights(loaded.model, pool.device.name, pool.device.number)
        graphs = {True: loaded.model}
        if self.features:
            graphs[False] = loaded.trunk()
        self.lanes = {  # the largest first, because it plans and allocates most
            (size, head): Lanes(self._task(graph, size))
            for size in reversed(sizes)
            for head, graph in graphs.items()
        }

    def _task(self, graph: ModelProto, size: int) -> Task:
        rows = self._pool.rows
        read = [spec for spec in self.inputs if spec.name in rows]
        image = next((spec for spec in self.inputs if spec.name not in rows), None)
        model = with_slot_rows(graph, read, self.features, self._pool.spare + 1, size, self._ranked)
        session = open_session(self._path, model, self._pool.device.providers, self._weights)
        return Task(
            session,
            self._pool,
            size,
            [rows[spec.name] for spec in read],
            [rows[spec.name] for spec in self.features],
            image,
        )

    def run(self, inputs: Tensors, *, head: bool) -> StageOutput:
        """Run the stage on the rows `slots`, int64 [N]. It writes its features to the same rows."""
        if not head and not self.features:
            return StageOutput({}, None, None)
        slots = inputs[SLOTS]
        size = self._sizes[bisect_left(self._sizes, len(slots))]
        results = self.lanes[size, head].run(slots)
        if not head:
            return StageOutput({}, None, None)
        probabilities = self._dense(results) if self._ranked else results[PROBABILITIES]
        confidence = mark_non_finite(results[CONFIDENCE], probabilities)
        return StageOutput({}, probabilities, confidence, results.get(SCORE))

    def _dense(self, results: Results) -> NDArray[np.float32]:
        """Return the largest probabilities in the places of their classes, and 0 elsewhere."""
        values, classes = (results[name] for name in RANKED)
        dense = np.zeros((len(values), self._classes), np.float32)
        np.put_along_axis(dense, classes.astype(np.int64), values, axis=1)
        return dense


class CudaRuntime(Runtime):
    """The stages of one bundle on a device, where their features stay.

    Args:
        folder: Folder of the bundle.
        manifest: Manifest of the bundle.
        pool: Slots with its tensors.
        max_batch: Most images in a batch.

    Attributes:
        stages: The stages with their sessions.

    Raises:
        BundleError: A graph is damaged, or differs from its description in the manifest.
        ProviderError: The provider is not available, or cannot run a stage.
    """

    parallel_batches = PARALLEL_BATCHES

    def __init__(self, folder: Path, manifest: Manifest, pool: CudaSlots, max_batch: int) -> None:
        self._pool = pool
        files = [folder / stage.file for stage in manifest.stages]
        self.batch_sizes, classes = sizes_up_to(max_batch), len(manifest.labels)
        # the CPU's provider checks the graphs against the manifest
        loaded = [load_stage(folder, manifest, k) for k in range(manifest.exits)]
        stages = [
            CudaStage(file, each, pool, self.batch_sizes, classes)
            for file, each in zip(files, loaded, strict=True)
        ]
        super().__init__(stages, files)
        self.stages = stages

    def _black(self, batch: int) -> Tensors:
        return {SLOTS: np.full(batch, self._pool.spare)}
