"""Slots: room for each request's features, allocated once.

A slot is one row of bytes, in which every tensor has its place: the image, and the features of
every stage. What stands between stages is thus bounded by `slots` times that row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.errors import PoolFullError
from serving.manifest import TensorSpec

ALIGNMENT = 64  # bytes: a cache line


class Pool:
    """Room for `slots` requests.

    Args:
        inputs: the tensors that each stage reads; the first reads the image alone.
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
        specs = [image, *(spec for given in features for spec in given)]
        width = sum(map(_padded, specs))
        # np.empty of this size is mapped, not touched: pages come with the first use.
        self._rows = np.empty((slots, width), np.uint8)
        self._views = _views(self._rows, specs)
        self._image = self._views[image.name]
        self._inputs = [[spec.name for spec in read] for read in inputs]
        self._features = [[spec.name for spec in given] for given in features]
        self._free = list(reversed(range(slots)))
        self.slots = slots

    @property
    def free(self) -> int:
        """Number of slots that no request holds."""
        return len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes that the features can take, all slots together."""
        return self._rows.nbytes

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

    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Put an image, uint8 [H, W, 3], into its slot."""
        self._image[slot] = image

    def gather(self, stage: int, slots: Sequence[int]) -> dict[str, NDArray[np.generic]]:
        """What a stage (from 0) reads by name, [len(slots), ...], copied together."""
        return {name: self._views[name][slots] for name in self._inputs[stage]}

    def scatter(
        self, stage: int, slots: Sequence[int], features: Mapping[str, NDArray[np.generic]]
    ) -> None:
        """Put each row of what a stage (from 0) gave, [len(slots), ...], into its slot."""
        for name in self._features[stage]:
            self._views[name][slots] = features[name]


def _padded(spec: TensorSpec) -> int:
    nbytes = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _views(rows: NDArray[np.uint8], specs: Sequence[TensorSpec]) -> dict[str, NDArray[np.generic]]:
    """Each tensor as an array [slots, ...] over its part of the rows."""
    views: dict[str, NDArray[np.generic]] = {}
    offset = 0
    for spec in specs:
        size = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        part = rows[:, offset : offset + size].view(spec.dtype)
        views[spec.name] = part.reshape(len(rows), *spec.shape, copy=False)
        offset += _padded(spec)
    return views
