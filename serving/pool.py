"""Slots: room for each request's features, allocated once.

A slot is one row of bytes, wide enough for one image's tensors at any one boundary: a
request is at one boundary at a time. What stands between stages is thus bounded by
`slots` times the widest boundary. Boundary 0 is the image, boundary k the features that
stage k hands on (k from 1).
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
        boundaries: the tensors of each boundary, the image's first.
        slots: how many requests fit.
    """

    def __init__(self, boundaries: Sequence[Sequence[TensorSpec]], slots: int) -> None:
        width = max(sum(_padded(spec) for spec in boundary) for boundary in boundaries)
        # np.empty of this size is mapped, not touched: pages come with the first use.
        self._rows = np.empty((slots, width), np.uint8)
        self._views = [_views(self._rows, boundary) for boundary in boundaries]
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
        (view,) = self._views[0].values()
        view[slot] = image

    def gather(self, boundary: int, slots: Sequence[int]) -> dict[str, NDArray[np.generic]]:
        """The boundary's tensors by name, [len(slots), ...], copied together."""
        return {name: view[slots] for name, view in self._views[boundary].items()}

    def scatter(
        self, boundary: int, slots: Sequence[int], tensors: Mapping[str, NDArray[np.generic]]
    ) -> None:
        """Put each row of the boundary's tensors, [len(slots), ...], into its slot."""
        for name, view in self._views[boundary].items():
            view[slots] = tensors[name]


def _padded(spec: TensorSpec) -> int:
    nbytes = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _views(
    rows: NDArray[np.uint8], boundary: Sequence[TensorSpec]
) -> dict[str, NDArray[np.generic]]:
    """Each tensor of a boundary as an array [slots, ...] over its part of the rows."""
    views: dict[str, NDArray[np.generic]] = {}
    offset = 0
    for spec in boundary:
        size = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
        part = rows[:, offset : offset + size].view(spec.dtype)
        views[spec.name] = part.reshape(len(rows), *spec.shape, copy=False)
        offset += _padded(spec)
    return views
