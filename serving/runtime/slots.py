"""Slots in the host's memory.

The features that a stage made stay where ONNX Runtime put them, and a slot remembers its row. The
next stage reads them there if its batch is consecutive rows of one array, which is so for batches
that continue whole or alone. Otherwise the rows are copied together, once.

An array lives as long as one of its rows is needed. The memory is bounded: by the most that the
tensors of all slots take, and one batch for each thread. Rows are moved to smaller arrays before
more would be held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import TensorSpec
from serving.runtime.base import Arrays, Slots


def last_readers(inputs: Sequence[Sequence[TensorSpec]]) -> dict[str, int]:
    """Return the last stage (from 0) that reads each tensor, by its name."""
    return {spec.name: stage for stage, specs in enumerate(inputs) for spec in specs}


class _Output:
    """Features that a stage made for a batch, and the rows that are still needed, by slot."""

    __slots__ = ("arrays", "count", "rows")

    def __init__(self, arrays: Arrays, rows: dict[int, int]) -> None:
        self.arrays = arrays
        self.rows = rows
        self.count = len(next(iter(arrays.values())))

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def compact(self) -> None:
        """Keep only the rows that are needed."""
        rows = list(self.rows.values())
        self.arrays = {name: array[rows] for name, array in self.arrays.items()}
        self.rows = {slot: row for row, slot in enumerate(self.rows)}
        self.count = len(rows)


@dataclass(frozen=True, slots=True)
class _Group:
    """Tensors that one stage makes and that are last read by the same later one.

    Attributes:
        names: Their names.
        last: That later stage.
        held: The output that holds them, for each slot.
    """

    names: list[str]
    last: int
    held: list[_Output | None]


class HostSlots(Slots):
    """Room for `slots` requests in the host's memory.

    Args:
        inputs: Tensors that each stage reads: the image, then features of earlier stages.
        features: Tensors that each stage gives to later ones.
        slots: Number of requests that fit.

    Attributes:
        held: Bytes of features that are held now.
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[TensorSpec]],
        features: Sequence[Sequence[TensorSpec]],
        slots: int,
    ) -> None:
        (image,) = inputs[0]
        # np.empty of this size is mapped and not touched: pages come with their first use
        super().__init__(slots, np.empty((slots, *image.shape), np.uint8))
        self._image = image.name
        self._inputs = [[spec.name for spec in specs] for specs in inputs]
        read = last_readers(inputs)
        self._makes = [_groups(specs, read, slots) for specs in features]
        groups = [group for made in self._makes for group in made]
        self._reads = [[g for g in groups if not set(g.names).isdisjoint(n)] for n in self._inputs]
        self._groups = groups
        self._alive: set[_Output] = set()
        self.held = 0
        self._most = slots * _most_of_one(inputs, features)
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors of all slots can take."""
        return self.images.nbytes + self._most

    def give(self, slot: int) -> None:
        """Give a slot back, and release its features."""
        # without the lock: the slot is in no batch, so that no thread changes what it holds
        holding = [group for group in self._groups if group.held[slot] is not None]
        if holding:
            with self._lock:
                for group in holding:
                    self._release(group, [slot])
        super().give(slot)

    def gather(self, stage: int, slots: list[int]) -> Arrays:
        """Return the stage's inputs by name, [len(slots), ...], read-only."""
        found: Arrays = {}
        if self._image in self._inputs[stage]:
            whole = slice(slots[0], slots[0] + 1) if len(slots) == 1 else slots
            found[self._image] = self.images[whole]
        for group in self._reads[stage]:
            with self._lock:
                parts = _parts(group, slots)
                if stage == group.last:
                    self._release(group, slots)
            for name in self._inputs[stage]:
                if name in group.names:
                    found[name] = _together([m[name][start:end] for m, start, end in parts])
        return {name: found[name] for name in self._inputs[stage]}

    def scatter(
        self,
        stage: int,
        slots: list[int],
        rows: list[int],
        features: Mapping[str, NDArray[np.generic]],
    ) -> None:
        """Keep the features of requests that continue, given their slots and rows."""
        for group in self._makes[stage]:
            output = _Output(
                {name: features[name] for name in group.names}, dict(zip(slots, rows, strict=True))
            )
            with self._lock:
                self._hold(group, output)

    def isolate(self, slots: list[int]) -> None:
        """Move the features of slots into arrays of their own.

        One row would keep those of its whole batch, as long as it waits.
        """
        with self._lock:
            for group, slot in product(self._groups, slots):
                if (output := group.held[slot]) is not None:
                    rows = [output.rows[slot]]
                    own = {name: array[rows] for name, array in output.arrays.items()}
                    self._release(group, [slot])
                    self._hold(group, _Output(own, {slot: 0}))

    def _hold(self, group: _Group, output: _Output) -> None:
        """Hold an output for the slots of its rows. The lock is held."""
        for slot in output.rows:
            group.held[slot] = output
        self._alive.add(output)
        self.held += output.nbytes
        if self.held > self._most:
            self._compact()

    def _release(self, group: _Group, slots: list[int]) -> None:
        """Release what a group holds for slots. The lock is held."""
        held = group.held
        for slot in slots:
            output = held[slot]
            assert output is not None
            held[slot] = None
            rows = output.rows
            del rows[slot]
            if not rows:
                self._alive.remove(output)
                self.held -= output.nbytes

    def _compact(self) -> None:
        for output in self._alive:
            if len(output.rows) < output.count:
                output.compact()
        self.held = sum(output.nbytes for output in self._alive)


def _groups(specs: Sequence[TensorSpec], read: Mapping[str, int], slots: int) -> list[_Group]:
    names = [spec.name for spec in specs if spec.name in read]
    lasts = sorted({read[name] for name in names})
    return [_Group([n for n in names if read[n] == last], last, [None] * slots) for last in lasts]


def _parts(group: _Group, slots: list[int]) -> list[tuple[Arrays, int, int]]:
    """Return the slots' rows, in their order, as runs of consecutive rows: arrays, first, end."""
    parts: list[tuple[Arrays, int, int]] = []
    for slot in slots:
        output = group.held[slot]
        assert output is not None
        row = output.rows[slot]
        if parts and parts[-1][0] is output.arrays and parts[-1][2] == row:
            parts[-1] = (output.arrays, parts[-1][1], row + 1)
        else:
            parts.append((output.arrays, row, row + 1))
    return parts


def _together(parts: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _most_of_one(
    inputs: Sequence[Sequence[TensorSpec]], features: Sequence[Sequence[TensorSpec]]
) -> int:
    """Return the most bytes of features that one request has between two stages."""
    read = last_readers(inputs)
    made = {spec.name: stage for stage, specs in enumerate(features) for spec in specs}
    needed = (
        [s for specs in features for s in specs if made[s.name] < stage <= read.get(s.name, -1)]
        for stage in range(len(inputs))
    )
    return max(sum(spec.nbytes for spec in specs) for specs in needed)
