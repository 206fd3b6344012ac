"""Slots: room for each request's tensors, allocated once.

A slot is one row of bytes. Every tensor that a stage hands on has its place in the row, from
the stage that makes it to the last that reads it; tensors whose lives do not overlap share
places. What stands between stages is thus bounded: `slots` rows, and one batch a stage.

That batch is the one fast path: where all survivors of a batch run on together, the stage
reads what the last one wrote, and nothing is copied.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from serving.errors import PoolFullError
from serving.manifest import TensorSpec

ALIGNMENT = 64  # bytes: a cache line
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor stands in a row, from after stage `made` until stage `read` has run."""

    spec: TensorSpec
    made: int
    read: int
    offset: int

    @property
    def end(self) -> int:
        return self.offset + _padded(self.spec)

    def of(self, rows: NDArray[np.uint8]) -> NDArray[np.generic]:
        """The tensor of every slot, [slots, ...]."""
        size = math.prod(self.spec.shape) * np.dtype(self.spec.dtype).itemsize
        part = rows[:, self.offset : self.offset + size].view(self.spec.dtype)
        return part.reshape(len(rows), *self.spec.shape, copy=False)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """What a stage gave for these slots, and is in no row yet."""

    slots: list[int]
    arrays: Arrays


class Slots(ABC):
    """Slots for requests, each with room for the tensors of one.

    Args:
        slots: how many.
    """

    def __init__(self, slots: int) -> None:
        self._free = list(reversed(range(slots)))
        self.slots = slots

    @property
    def free(self) -> int:
        """Number of slots that no request holds."""
        return len(self._free)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that the tensors can take, all slots together."""

    def take(self, count: int) -> list[int]:
        """Take `count` slots, or none.

        Raises:
            PoolFullError: fewer than that are free.
        """
        if count > self.free:
            raise PoolFullError(
                f"the call needs {count} of {self.slots} slots and {self.free} are free; "
                "come again after the seconds in Retry-After"
            )
        return [self._free.pop() for _ in range(count)]

    def give(self, slot: int) -> None:
        """Give a slot back."""
        assert self.free < self.slots
        self._free.append(slot)

    @abstractmethod
    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Put an image, uint8 [H, W, 3], into its slot."""

    @abstractmethod
    def gather(self, stage: int, slots: list[int]) -> Arrays:
        """What a run of the stage (from 0) takes for these slots, by name, to be read only.

        May be called from any thread, as `scatter` may, for slots that the caller's batch holds.
        """

    @abstractmethod
    def scatter(
        self,
        stage: int,
        slots: list[int],
        rows: list[int],
        features: Mapping[str, NDArray[np.generic]],
    ) -> None:
        """Keep what the stage gave for those who run on: their slots, and their rows in it."""


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
        super().__init__(slots)
        places = {place.spec.name: place for place in _places(inputs, features)}
        # np.empty of this size is mapped, not touched: pages come with the first use.
        self._rows = np.empty((slots, max(place.end for place in places.values())), np.uint8)
        self._views = {name: place.of(self._rows) for name, place in places.items()}
        (self._image,) = (self._views[spec.name] for spec in inputs[0])
        self._inputs = [[spec.name for spec in specs] for specs in inputs]
        # by stage: what only the next one reads, and what later ones read as well
        made = [[places[s.name] for s in specs if s.name in places] for specs in features]
        self._passing = [[p.spec.name for p in ps if p.read == p.made + 1] for ps in made]
        self._staying = [[p.spec.name for p in ps if p.read > p.made + 1] for ps in made]
        self._fresh: list[_Fresh | None] = [None] * len(inputs)  # by the stage that reads it
        self._locks = [Lock() for _ in inputs]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors can take, all slots together."""
        return self._rows.nbytes

    def give(self, slot: int) -> None:
        """Give a slot back."""
        for stage, fresh in enumerate(self._fresh):
            if fresh is not None and slot in fresh.slots:
                with self._locks[stage]:
                    self._spill(stage)  # now: its next owner must find nothing pending
        super().give(slot)

    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Put an image, uint8 [H, W, 3], into its slot."""
        self._image[slot] = image

    def gather(self, stage: int, slots: list[int]) -> Arrays:
        """The stage's tensors by name, [len(slots), ...], to be read only."""
        fresh = self._take_fresh(stage, slots)
        if len(slots) == 1:
            chosen: slice | list[int] = slice(slots[0], slots[0] + 1)  # a view: no copy
        else:
            chosen = slots
        return {
            name: fresh[name] if name in fresh else self._views[name][chosen]
            for name in self._inputs[stage]
        }

    def scatter(
        self,
        stage: int,
        slots: list[int],
        rows: list[int],
        features: Mapping[str, NDArray[np.generic]],
    ) -> None:
        """Keep what the stage gave for those who run on: their slots, and their rows in it."""
        whole = bool(features) and len(rows) == len(next(iter(features.values())))
        kept = {
            name: features[name] if whole else features[name][rows]
            for name in (*self._passing[stage], *self._staying[stage])
        }
        for name in self._staying[stage]:
            self._views[name][slots] = kept.pop(name)
        if kept:
            with self._locks[stage + 1]:
                self._spill(stage + 1)
                self._fresh[stage + 1] = _Fresh(slots, kept)

    def _take_fresh(self, stage: int, slots: list[int]) -> Arrays:
        """The fresh tensors, where they are of these slots and no others."""
        with self._locks[stage]:
            fresh = self._fresh[stage]
            if fresh is not None and fresh.slots == slots:
                self._fresh[stage] = None
                return fresh.arrays
            self._spill(stage)
            return {}

    def _spill(self, stage: int) -> None:
        """Copy fresh tensors into their rows."""
        fresh = self._fresh[stage]
        if fresh is not None:
            for name, array in fresh.arrays.items():
                self._views[name][fresh.slots] = array
            self._fresh[stage] = None


def _padded(spec: TensorSpec) -> int:
    nbytes = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _places(
    inputs: Sequence[Sequence[TensorSpec]], features: Sequence[Sequence[TensorSpec]]
) -> list[_Place]:
    """The largest tensors first, each at the lowest offset that is free for all its life."""
    made = {spec.name: stage for stage, specs in enumerate(features) for spec in specs}
    read = {spec.name: stage for stage, specs in enumerate(inputs) for spec in specs}
    specs = {spec.name: spec for taken in inputs for spec in taken}
    placed: list[_Place] = []
    for spec in sorted(specs.values(), key=_padded, reverse=True):
        first, last = made.get(spec.name, -1), read[spec.name]
        others = [place for place in placed if first < place.read and place.made < last]
        offset = _lowest_gap(others, _padded(spec))
        placed.append(_Place(spec, first, last, offset))
    return placed


def _lowest_gap(places: Sequence[_Place], size: int) -> int:
    offset = 0
    for place in sorted(places, key=lambda place: place.offset):
        if place.offset - offset >= size:
            break
        offset = max(offset, place.end)
    return offset
