"""The memory that a session on the device is bound to: a lane for each batch that it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from offramp.bundle.manifest import TensorSpec
from serving.runtime.cuda.graph import SLOTS, kept, pooled
from serving.runtime.cuda.slots import CudaSlots, Rows

_DTYPES = {"tensor(float)": "float32", "tensor(int32)": "int32"}
Results = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Task:
    """A session for batches of one size, and its tensors.

    Attributes:
        image: Its input from the host, if it has one.
    """

    session: ort.InferenceSession
    pool: CudaSlots
    size: int
    read: Sequence[Rows]
    made: Sequence[Rows]
    image: TensorSpec | None


class Lanes:
    """A lane for each batch that a session runs at the same time, made when it is first needed.

    Args:
        task: The session and its tensors.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._idle = deque([_Lane(task)])

    @property
    def session(self) -> ort.InferenceSession:
        """The session of all these lanes."""
        return self._task.session

    @property
    def idle(self) -> int:
        """Number of lanes that run no batch."""
        return len(self._idle)

    def run(self, slots: NDArray[np.generic]) -> Results:
        """Run a batch on these slots. Return the outputs of the exit, by name."""
        try:
            lane = self._idle.pop()  # a deque gives it to one thread only
        except IndexError:
            lane = _Lane(self._task)
        try:
            return lane.run(slots)
        finally:
            self._idle.append(lane)


class _Lane:
    """The memory that a session is bound to, for one batch at a time."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._binding = task.session.io_binding()
        self._rows = np.full(task.size, task.pool.spare, np.int64)
        self._slots = task.pool.device.tensor((task.size,), "int64")
        self._binding.bind_ortvalue_input(SLOTS, self._slots)
        if task.image is not None:
            self._bind_image(task.image)
        self._bind_features()
        self.results = {
            value.name: task.pool.device.tensor(value.shape, _DTYPES[value.type])
            for value in task.session.get_outputs()[len(task.made) :]
        }
        for name, value in self.results.items():
            self._binding.bind_ortvalue_output(name, value)

    def _bind_image(self, image: TensorSpec) -> None:
        device, shape = self._task.pool.device, (self._task.size, *image.shape)
        self._staging = device.staging(shape)
        self._images = device.tensor(shape, image.dtype)
        self._binding.bind_ortvalue_input(image.name, self._images)

    def _bind_features(self) -> None:
        task = self._task
        for rows in (*task.read, *task.made):
            self._binding.bind_input(pooled(rows.spec.name), *_place(task.pool, rows))
        for rows in task.made:
            self._binding.bind_output(kept(rows.spec.name), *_place(task.pool, rows))

    def run(self, slots: NDArray[np.generic]) -> Results:
        """Run a batch on these slots. Return the outputs of the exit, by name."""
        task, count = self._task, len(slots)
        self._rows[:count], self._rows[count:] = slots, task.pool.spare
        self._slots.update_inplace(self._rows)
        if task.image is not None:
            np.take(task.pool.images, self._rows, axis=0, out=self._staging, mode="clip")
            self._images.update_inplace(self._staging)
        task.session.run_with_iobinding(self._binding)
        # copied, because on the host this is the lane's memory, which the next batch uses
        return {name: value.numpy()[:count].copy() for name, value in self.results.items()}


def _place(pool: CudaSlots, rows: Rows) -> tuple[str, int, type[np.generic], list[int], int]:
    dtype = np.dtype(rows.spec.dtype).type
    return pool.device.name, pool.device.number, dtype, rows.shape, rows.address
