"""What the engine needs of a runtime, whatever the stages run on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from serving.errors import PoolFullError

MOST_CLASSES = 100  # that an answer lists
Arrays = dict[str, NDArray[np.generic]]


class Slots(ABC):
    """Slots for requests, each with room for the tensors of one.

    Args:
        slots: how many.
        images: room for the image of each, on the host; uint8 [slots or more, H, W, 3].
    """

    def __init__(self, slots: int, images: NDArray[np.uint8]) -> None:
        self._free = list(reversed(range(slots)))
        self.slots = slots
        self.images = images

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

    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Put an image, uint8 [H, W, 3], into its slot."""
        self.images[slot] = image

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


def sizes_up_to(max_batch: int) -> list[int]:
    """The batch sizes to measure: powers of two, and the largest."""
    doubled = [1 << bits for bits in range(max_batch.bit_length())]
    return sorted({*doubled, max_batch})
