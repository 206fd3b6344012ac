"""Slots with features that stay on the device: a row in every tensor for each slot.

A stage writes a request's features to the row of its slot, and the next stage reads them there
(`graph`). Between stages only the numbers of slots go to the device. Images come from the
host, in page-locked memory if it is available.
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
from serving.runtime.cuda.graph import SLOTS
from serving.runtime.session import CUDA, Providers, providers_of
from serving.runtime.slots import last_readers
from serving.settings import Provider

ALIGNMENT = 256  # bytes, as CUDA aligns what it allocates


@dataclass(frozen=True, slots=True)
class Device:
    """The device of tensors: `cpu`, or a CUDA device and its number.

    Attributes:
        providers: Execution providers for sessions on this device.

    Raises:
        ProviderError: The provider is not available.
    """

    name: Provider
    number: int = 0
    providers: Providers = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "providers", providers_of(self.name, self.number))

    def tensor(self, shape: Sequence[int], dtype: str) -> ort.OrtValue:
        """Allocate memory of this shape, not initialised."""
        return ort.OrtValue.ortvalue_from_shape_and_type(
            list(shape), np.dtype(dtype), self.name, self.number
        )

    def staging(self, shape: Sequence[int]) -> NDArray[np.uint8]:
        """Allocate memory on the host to copy from, page-locked if ONNX Runtime has it."""
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
    """A feature of all slots: a number of rows of `spec`, at an address on the device."""

    spec: TensorSpec
    rows: int
    address: int

    @property
    def shape(self) -> list[int]:
        """[rows, ...]."""
        return [self.rows, *self.spec.shape]


class CudaSlots(Slots):
    """Room for `slots` requests on a device.

    Args:
        inputs: Tensors that each stage reads: the image, then features of earlier stages.
        features: Tensors that each stage gives to later ones.
        slots: Number of requests that fit.
        device: Device of the features.

    Raises:
        ProviderError: The device has too little memory.

    Attributes:
        spare: Number of a further row, which fills batches up. Its values mean nothing.
        images: Images of all slots and the spare one, on the host. uint8, [slots + 1, H, W, 3].
        rows: Rows of each feature, by name.
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
        self._memory = _allocated(device, sum(sizes), slots)
        addresses = accumulate(sizes, initial=self._memory.data_ptr())
        self.rows = {
            spec.name: Rows(spec, slots + 1, address)
            for specs, address in zip(places, addresses, strict=False)  # the last is the end
            for spec in specs
        }

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors of all slots can take."""
        return self.images.nbytes + int(self._memory.tensor_size_in_bytes())

    def gather(self, stage: int, slots: list[int]) -> Arrays:  # noqa: ARG002 (the same for all stages)
        """Return the slots' numbers, which are the rows that a stage reads and writes."""
        return {SLOTS: np.array(slots, np.int64)}

    def scatter(self, *_: object, **__: object) -> None:
        """Do nothing, because the stage wrote all rows."""

    def isolate(self, *_: object) -> None:
        """Do nothing, because each slot has rows of its own."""


def _allocated(device: Device, nbytes: int, slots: int) -> ort.OrtValue:
    try:
        return device.tensor((nbytes,), "uint8")
    except Exception as error:
        text = f"no room on {device.name} for {slots} slots ({error}); serve with fewer"
        raise ProviderError(text) from error


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(slots=True)
class _Place:
    """Memory of several features, one after the other. Stages after `free_after` reuse it."""

    nbytes: int
    specs: list[TensorSpec] = field(default_factory=list)
    free_after: int = 0


def _places(
    inputs: Sequence[Sequence[TensorSpec]], features: Sequence[Sequence[TensorSpec]]
) -> list[list[TensorSpec]]:
    """Group features that use the same memory, in the order in which they are made.

    Their rows must have the same length, so that a slot has the same bytes in all of them. A stage
    must not write the memory of its own inputs, because the nodes of a graph can run in any order.
    """
    read = last_readers(inputs)
    places: list[_Place] = []
    for stage, specs in enumerate(features):
        for spec in specs:
            free = [place for place in places if place.free_after < stage]
            found = next((each for each in free if each.nbytes == spec.nbytes), None)
            if found is None:
                places.append(found := _Place(spec.nbytes))
            found.specs.append(spec)
            found.free_after = read[spec.name]
    return [place.specs for place in places]
