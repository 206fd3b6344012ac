"""Slots: room for each request, from the door to its end.

On the host, what a stage made stays where the stage put it, and a slot remembers its row. The
next stage reads it there if its batch is consecutive rows of one such array, as batches are that
go on whole or alone; else the rows are copied together, once.

An array lives as long as one of its rows is waited for. What is held is bounded all the same: by
what the slots' tensors take at most, and one batch a thread; rows are moved to smaller arrays
where more would be held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import TensorSpec
from serving.runtime.base import Arrays, Slots


def last_readers(inputs: Sequence[Sequence[TensorSpec]]) -> dict[str, int]:
    """The last stage (from 0) that takes each tensor, by its name."""
    return {spec.name: stage for stage, specs in enumerate(inputs) for spec in specs}


class _Made:
    """What a stage gave for a batch, and the rows of it that are waited for, by slot."""

    __slots__ = ("arrays", "count", "rows")

    def __init__(self, arrays: Arrays, rows: dict[int, int]) -> None:
        self.arrays = arrays
        self.rows = rows
        self.count = len(next(iter(arrays.values())))

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def compacted(self) -> None:
        """Keep only the rows that are waited for."""
        rows = list(self.rows.values())
        self.arrays = {name: array[rows] for name, array in self.arrays.items()}
        self.rows = {slot: row for row, slot in enumerate(self.rows)}
        self.count = len(rows)


@dataclass(frozen=True, slots=True)
class _Group:
    """Tensors that one stage makes and that are last read by the same later one.

    Attributes:
        names: of them.
        last: the stage.
        held: what holds them, for each slot.
    """

    names: list[str]
    last: int
    held: list[_Made | None]


class Pool(Slots):
    """Room for `slots` requests in the host's memory.

    Args:
        inputs: the tensors that each stage takes: the image, then features of earlier stages.
        features: the tensors that each stage gives.
        slots: how many requests fit.
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[TensorSpec]],
        features: Sequence[Sequence[TensorSpec]],
        slots: int,
    ) -> None:
        (image,) = inputs[0]
        # np.empty of this size is mapped, not touched: pages come with the first use
        super().__init__(slots, np.empty((slots, *image.shape), np.uint8))
        self._image = image.name
        self._inputs = [[spec.name for spec in specs] for specs in inputs]
        read = last_readers(inputs)
        self._makes = [_groups(specs, read, slots) for specs in features]
        groups = [group for made in self._makes for group in made]
        self._reads = [[g for g in groups if not set(g.names).isdisjoint(n)] for n in self._inputs]
        self._groups = groups
        self._alive: set[_Made] = set()
        self.held = 0  # bytes of features
        self._most = slots * _most_of_one(inputs, features)
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors can take, all slots together."""
        return self.images.nbytes + self._most

    def give(self, slot: int) -> None:
        """Give a slot back."""
        with self._lock:
            for group in self._groups:
                if group.held[slot] is not None:
                    self._let_go(group, slot)
        super().give(slot)

    def gather(self, stage: int, slots: list[int]) -> Arrays:
        """The stage's tensors by name, [len(slots), ...], to be read only."""
        found: Arrays = {}
        if self._image in self._inputs[stage]:
            whole = slice(slots[0], slots[0] + 1) if len(slots) == 1 else slots
            found[self._image] = self.images[whole]
        for group in self._reads[stage]:
            with self._lock:
                parts = _parts(group, slots)
                if stage == group.last:
                    for slot in slots:
                        self._let_go(group, slot)
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
        """Keep what the stage gave for those who run on: their slots, and their rows in it."""
        for group in self._makes[stage]:
            made = _Made(
                {name: features[name] for name in group.names}, dict(zip(slots, rows, strict=True))
            )
            with self._lock:
                for slot in slots:
                    group.held[slot] = made
                self._alive.add(made)
                self.held += made.nbytes
                if self.held > self._most:
                    self._compact()

    def _let_go(self, group: _Group, slot: int) -> None:
        made = group.held[slot]
        assert made is not None
        group.held[slot] = None
        del made.rows[slot]
        if not made.rows:
            self._alive.remove(made)
            self.held -= made.nbytes

    def _compact(self) -> None:
        for made in self._alive:
            if len(made.rows) < made.count:
                made.compacted()
        self.held = sum(made.nbytes for made in self._alive)


def _groups(specs: Sequence[TensorSpec], read: Mapping[str, int], slots: int) -> list[_Group]:
    names = [spec.name for spec in specs if spec.name in read]
    lasts = sorted({read[name] for name in names})
    return [_Group([n for n in names if read[n] == last], last, [None] * slots) for last in lasts]


def _parts(group: _Group, slots: list[int]) -> list[tuple[Arrays, int, int]]:
    """The slots' rows in their order, as runs of consecutive rows: arrays, first, end."""
    parts: list[tuple[Arrays, int, int]] = []
    for slot in slots:
        made = group.held[slot]
        assert made is not None
        row = made.rows[slot]
        if parts and parts[-1][0] is made.arrays and parts[-1][2] == row:
            parts[-1] = (made.arrays, parts[-1][1], row + 1)
        else:
            parts.append((made.arrays, row, row + 1))
    return parts


def _together(parts: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _most_of_one(
    inputs: Sequence[Sequence[TensorSpec]], features: Sequence[Sequence[TensorSpec]]
) -> int:
    """Bytes of the features that one request can have between two stages."""
    read = last_readers(inputs)
    made = {spec.name: stage for stage, specs in enumerate(features) for spec in specs}
    waiting = (
        [s for specs in features for s in specs if made[s.name] < stage <= read.get(s.name, -1)]
        for stage in range(len(inputs))
    )
    return max(sum(spec.nbytes for spec in specs) for specs in waiting)
