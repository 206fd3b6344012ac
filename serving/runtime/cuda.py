"""Stages that run on rows of a device's memory (`rows`, `device_pool`), each batch size by itself.

One session for each stage and batch size, with the head and without: a convolution remembers the
plan for one shape only, and sizes that take turns in one session would plan anew at each turn.
Batches are filled up to the next size that there is. All sessions of a stage share its weights.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from offramp.bundle.graphs import without_head
from offramp.bundle.manifest import Manifest, TensorSpec
from serving.runtime.base import MOST_CLASSES, sizes_up_to
from serving.runtime.cpu import Runtime
from serving.runtime.cuda_graph import (
    CONFIDENCE,
    PROBABILITIES,
    RANKED,
    SLOTS,
    kept,
    pooled,
    with_slot_rows,
)
from serving.runtime.cuda_slots import DevicePool, Rows
from serving.runtime.session import open_session, shared_weights
from serving.runtime.stage import Loaded, StageOutput, Tensors, load_stage, mark_non_finite

_DTYPES = {"tensor(float)": "float32", "tensor(int32)": "int32"}
Results = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Task:
    """A session for batches of one size, and what it works on.

    `image` is its input from the host, if it has one.
    """

    session: ort.InferenceSession
    pool: DevicePool
    size: int
    read: Sequence[Rows]
    made: Sequence[Rows]
    image: TensorSpec | None


class DeviceStage:
    """The sessions of one stage, on rows.

    Args:
        path: of its graph, for messages.
        loaded: the stage as the bundle has it.
        pool: where its features are.
        sizes: of batches, ascending.
        classes: how many there are.

    Raises:
        ProviderError: the provider is not to be had, or cannot run it.
    """

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        pool: DevicePool,
        sizes: Sequence[int],
        classes: int,
    ) -> None:
        self.inputs, self.features = loaded.stage.inputs, loaded.stage.features
        self._path, self._pool = path, pool
        self._sizes, self._classes = sizes, classes
        self._ranked = MOST_CLASSES if classes > MOST_CLASSES else None
        self._weights = shared_weights(loaded.model, pool.device.name, pool.device.number)
        graphs = {True: loaded.model}
        if self.features:
            graphs[False] = without_head(loaded.model, [spec.name for spec in self.features])
        self._lanes = {  # the largest first: what it plans and allocates is the most
            (size, head): _Lanes(self._task(graph, size))
            for size in reversed(sizes)
            for head, graph in graphs.items()
        }

    def _task(self, graph: ModelProto, size: int) -> _Task:
        rows = self._pool.rows
        read = [spec for spec in self.inputs if spec.name in rows]
        image = next((spec for spec in self.inputs if spec.name not in rows), None)
        model = with_slot_rows(graph, read, self.features, self._pool.spare + 1, size, self._ranked)
        session = open_session(self._path, model, self._pool.device.providers, self._weights)
        return _Task(
            session,
            self._pool,
            size,
            [rows[spec.name] for spec in read],
            [rows[spec.name] for spec in self.features],
            image,
        )

    def run(self, inputs: Tensors, *, head: bool) -> StageOutput:
        """Run it on the rows `slots`, int64 [N]; what it makes of them is there afterwards."""
        slots = inputs[SLOTS]
        size = self._sizes[bisect_left(self._sizes, len(slots))]
        results = self._lanes[size, head].run(slots)
        if not head:
            return StageOutput({}, None, None)
        probabilities = self._dense(results) if self._ranked else results[PROBABILITIES]
        return StageOutput({}, probabilities, mark_non_finite(results[CONFIDENCE], probabilities))

    def _dense(self, results: Results) -> NDArray[np.float32]:
        """The largest probabilities, each in the place of its class; 0 elsewhere."""
        values, classes = (results[name] for name in RANKED)
        dense = np.zeros((len(values), self._classes), np.float32)
        np.put_along_axis(dense, classes.astype(np.int64), values, axis=1)
        return dense


class _Lanes:
    """A lane for each batch that a session runs at the same time; made when there are too few."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._idle = deque([_Lane(task)])

    def run(self, slots: NDArray[np.generic]) -> Results:
        try:
            lane = self._idle.pop()  # by one thread: a deque sees to that
        except IndexError:
            lane = _Lane(self._task)
        try:
            return lane.run(slots)
        finally:
            self._idle.append(lane)


class _Lane:
    """What a session is bound to, once and for all, for one batch at a time."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._binding = task.session.io_binding()
        device, size, image = task.pool.device, task.size, task.image
        self._rows = np.full(size, task.pool.spare, np.int64)
        self._slots = device.tensor((size,), "int64")
        self._binding.bind_ortvalue_input(SLOTS, self._slots)
        if image is not None:
            self._staging = device.staging((size, *image.shape))
            self._images = device.tensor((size, *image.shape), image.dtype)
            self._binding.bind_ortvalue_input(image.name, self._images)
        for rows in (*task.read, *task.made):
            self._binding.bind_input(pooled(rows.spec.name), *_place(task.pool, rows))
        for rows in task.made:
            self._binding.bind_output(kept(rows.spec.name), *_place(task.pool, rows))
        self._results = {
            value.name: device.tensor(value.shape, _DTYPES[value.type])
            for value in task.session.get_outputs()[len(task.made) :]
        }
        for name, value in self._results.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, slots: NDArray[np.generic]) -> Results:
        """What the exit says of each slot, by output."""
        task, count = self._task, len(slots)
        self._rows[:count], self._rows[count:] = slots, task.pool.spare
        self._slots.update_inplace(self._rows)
        if task.image is not None:
            np.take(task.pool.images, self._rows, axis=0, out=self._staging, mode="clip")
            self._images.update_inplace(self._staging)
        task.session.run_with_iobinding(self._binding)
        # on the host it is this very memory, which the next batch will use
        return {name: value.numpy()[:count].copy() for name, value in self._results.items()}


def _place(pool: DevicePool, rows: Rows) -> tuple[str, int, type[np.generic], list[int], int]:
    dtype = np.dtype(rows.spec.dtype).type
    return pool.device.name, pool.device.number, dtype, rows.shape, rows.address


class DeviceRuntime(Runtime):
    """The stages of one bundle on a device, where their features stay.

    Args:
        folder: of the bundle.
        manifest: of the bundle.
        pool: for its tensors; what `gather` gives is what `run` takes.
        max_batch: most images in a batch.

    Raises:
        BundleError: a graph is damaged, or is not as the manifest describes it.
        ProviderError: the provider is not to be had, or cannot run a stage.
    """

    on_device = True

    def __init__(self, folder: Path, manifest: Manifest, pool: DevicePool, max_batch: int) -> None:
        self._spare = pool.spare
        files = [folder / stage.file for stage in manifest.stages]
        sizes, classes = sizes_up_to(max_batch), len(manifest.labels)
        # on the CPU graphs are read, and held to the manifest
        loaded = [load_stage(folder, manifest, k) for k in range(manifest.exits)]
        stages = [
            DeviceStage(file, each, pool, sizes, classes)
            for file, each in zip(files, loaded, strict=True)
        ]
        self._keep(stages, files)

    def _black(self, batch: int) -> Tensors:
        return {SLOTS: np.full(batch, self._spare)}
