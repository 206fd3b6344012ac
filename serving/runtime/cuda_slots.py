"""Slots whose features stay on the device: a row in every tensor for each slot.

What a stage makes of a request goes to the row of its slot, and the next stage reads it there
(`rows`): between stages only the slots' numbers go to the device. Images come from the host, in
page-locked memory where there is such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from offramp.bundle.manifest import TensorSpec
from serving.errors import ProviderError
from serving.runtime.base import Arrays, Slots
from serving.runtime.cuda_graph import SLOTS
from serving.runtime.session import CUDA, Providers, providers_of
from serving.runtime.slots import last_readers
from serving.settings import Provider

ALIGNMENT = 256  # bytes, as CUDA aligns what it allocates


@dataclass(frozen=True, slots=True)
class Device:
    """Where tensors are: `cpu`, or the CUDA device of that number.

    Attributes:
        providers: what a session is to run on.

    Raises:
        ProviderError: it is not to be had.
    """

    name: Provider
    number: int = 0
    providers: Providers = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "providers", providers_of(self.name, self.number))

    def tensor(self, shape: Sequence[int], dtype: str) -> ort.OrtValue:
        """Memory of this shape, with anything in it."""
        return ort.OrtValue.ortvalue_from_shape_and_type(
            list(shape), np.dtype(dtype), self.name, self.number
        )

    def staging(self, shape: Sequence[int]) -> NDArray[np.uint8]:
        """Memory of the host to copy from: page-locked, where ONNX Runtime can give such."""
        for found in ort.get_ep_devices() if self.name == "cuda" else ():
            memory = found.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
            if found.ep_name == CUDA and memory is not None:
                locked: NDArray[np.uint8] = ort.OrtValue.ortvalue_from_shape_and_type(
                    list(shape), np.uint8, memory_info=memory
                ).numpy()
                return locked
        return np.empty(shape, np.uint8)


@dataclass(frozen=True, slots=True)
class Rows:
    """A feature of all slots: `rows` of `spec`, at an address on the device."""

    spec: TensorSpec
    rows: int
    address: int

    @property
    def shape(self) -> list[int]:
        """[rows, ...]."""
        return [self.rows, *self.spec.shape]


class DevicePool(Slots):
    """Room for `slots` requests on a device.

    Args:
        inputs: the tensors that each stage takes: the image, then features of earlier stages.
        features: the tensors that each stage gives.
        slots: how many requests fit.
        device: where the features are.

    Raises:
        ProviderError: the device has no room.

    Attributes:
        spare: a further row, which batches are filled up with. What is in it means nothing.
        images: of all slots and the spare one, on the host; uint8 [slots + 1, H, W, 3].
        rows: of each feature, by name.
    """

    def __init__(
        self,
        inputs: Sequence[Sequence[TensorSpec]],
        features: Sequence[Sequence[TensorSpec]],
        slots: int,
        device: Device,
    ) -> None:
        (image,) = inputs[0]
        super().__init__(slots, np.zeros((slots + 1, *image.shape), np.uint8))
        self.device = device
        self.spare = slots
        places = _places(inputs, features)
        sizes = [_padded((slots + 1) * specs[0].nbytes) for specs in places]
        try:
            self._memory = device.tensor((sum(sizes),), "uint8")
        except Exception as error:
            raise ProviderError(
                f"no room on {device.name} for {slots} slots ({error}); serve with fewer"
            ) from error
        addresses = accumulate(sizes, initial=self._memory.data_ptr())
        self.rows = {
            spec.name: Rows(spec, slots + 1, address)
            for specs, address in zip(places, addresses, strict=False)  # and the end
            for spec in specs
        }

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors can take, all slots together."""
        return self.images.nbytes + int(self._memory.tensor_size_in_bytes())

    def gather(self, stage: int, slots: list[int]) -> Arrays:  # noqa: ARG002 (all take the same)
        """The slots' numbers: which rows the stage is to read and write."""
        return {SLOTS: np.array(slots, np.int64)}

    def scatter(self, *_: object, **__: object) -> None:
        """Nothing: the stage has written everybody's rows."""


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _places(
    inputs: Sequence[Sequence[TensorSpec]], features: Sequence[Sequence[TensorSpec]]
) -> list[list[TensorSpec]]:
    """The features by the memory that they share, in the order in which they are made.

    Rows must be as long, so that a slot has the same bytes in both; and a stage writes only what
    no input of its own shares, for nothing says what of a graph runs first.
    """
    read = last_readers(inputs)
    places: list[list[TensorSpec]] = []
    free_after: list[int] = []
    for stage, specs in enumerate(features):
        for spec in specs:
            fits = (
                i
                for i, place in enumerate(places)
                if free_after[i] < stage and place[0].nbytes == spec.nbytes
            )
            i = next(fits, len(places))
            if i == len(places):
                places.append([])
                free_after.append(0)
            places[i].append(spec)
            free_after[i] = read[spec.name]
    return places
