"""The interfaces of a runtime: `Runtime` runs stages, `Slots` holds the tensors of requests.

A runtime for other hardware is one class of each: `cpu.CpuRuntime` with `slots.HostSlots`,
`cuda.runtime.CudaRuntime` with `cuda.slots.CudaSlots`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import TensorSpec
from serving.errors import PoolFullError

MOST_CLASSES = 100  # that an answer lists
Arrays = dict[str, NDArray[np.generic]]
Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """Output of a stage for a batch of N.

    Attributes:
        features: Tensors for later stages, by name, [N, ...].
        probabilities: float32, [N, classes]. `None` without the head.
        confidence: float32, [N]. NaN where a probability is not finite. `None` without the head.
        score: float32, [N]. `None` without the head, or if the graphs give no score.
    """

    features: Tensors
    probabilities: NDArray[np.float32] | None
    confidence: NDArray[np.float32] | None
    score: NDArray[np.float32] | None = None


class RunnableStage(Protocol):
    """A stage that can be run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Tensors that the stage reads."""

    @property
    def features(self) -> tuple[TensorSpec, ...]:
        """Tensors for later stages."""

    def run(self, inputs: Tensors, *, head: bool) -> StageOutput:
        """Run the stage on its inputs, each [N, ...], with its exit head or without."""


class Runtime(ABC):
    """The stages of one bundle, ready to run. All methods can be called from any thread.

    Args:
        stages: The stages, in their order.
        files: The file of each, for error messages.
        whole_network: All stages of the last network as one graph, up to the last exit. `None`:
            there is no such graph.

    Attributes:
        inputs: Tensors that each stage reads. On the CPU they can differ from the manifest's.
        features: Tensors that each stage gives to later ones.
        parallel_batches: Number of batches that the hardware runs side by side. Further threads
            gain nothing, and no batch is split for them. `None`: one for each thread.
        batch_sizes: Batch sizes, ascending: a batch is filled up to the next of them and takes
            its time. `None`: a batch of any size runs as it is.
        structure: Equal for runtimes that take the same time. `None`: not known.
        warm: Another model of this process has warmed the stages up.
    """

    parallel_batches: int | None = None
    batch_sizes: Sequence[int] | None = None
    structure: str | None = None
    warm: bool = False

    def __init__(
        self,
        stages: Sequence[RunnableStage],
        files: Sequence[Path],
        whole_network: RunnableStage | None = None,
    ) -> None:
        self._stages, self._files, self._whole_network = stages, files, whole_network
        self.inputs: tuple[tuple[TensorSpec, ...], ...] = tuple(s.inputs for s in stages)
        self.features: tuple[tuple[TensorSpec, ...], ...] = tuple(s.features for s in stages)

    @property
    def whole_network(self) -> bool:
        """True if `run_whole` can be called."""
        return self._whole_network is not None

    def run(self, stage: int, inputs: Tensors, *, head: bool = True) -> StageOutput:
        """Run a stage (from 0) on a batch.

        Args:
            stage: Number of the stage.
            inputs: Tensors by name, as `Slots.gather` gives them. Others are ignored.
            head: Run the exit head too. The last stage's head always runs.
        """
        return self._stages[stage].run(inputs, head=head or stage == len(self._stages) - 1)

    def run_whole(self, inputs: Tensors) -> StageOutput:
        """Run all stages of the last network at once, from the image to the last exit.

        Earlier exits are not computed, and there are no features.
        """
        assert self._whole_network is not None
        return self._whole_network.run(inputs, head=True)

    def warm_up(self, batch: int) -> None:
        """Run every stage on `batch` black images, so that the first request is not slower.

        Raises:
            BundleError: A stage fails, or gives other shapes than the manifest says.
        """
        known = self._black(batch)
        for k, file in enumerate(self._files):
            try:
                self.run(k, known, head=False)
                known = {**known, **self.run(k, known).features}
            except Exception as error:
                raise BundleError(file, f"fails to run: {error}") from error
        try:
            if self.whole_network:
                self.run_whole(known)
        except Exception as error:
            raise BundleError(file.parent, f"fails to run as one graph: {error}") from error

    @abstractmethod
    def _black(self, batch: int) -> Tensors:
        """Return the inputs of the first stage for `batch` black images."""


class Slots(ABC):
    """Slots for requests, each with room for the tensors of one.

    Args:
        slots: Number of slots.
        images: Memory for the image of each, on the host. uint8, [slots or more, H, W, 3].
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
        """Bytes that the tensors of all slots can take."""

    def take(self, count: int) -> list[int]:
        """Take `count` slots, or raise and take no slot.

        Raises:
            PoolFullError: Fewer slots are free.
        """
        if count > self.free:
            raise PoolFullError(
                f"the call needs {count} of {self.slots} slots and {self.free} are free; "
                "try again after the seconds in Retry-After"
            )
        return [self._free.pop() for _ in range(count)]

    def give(self, slot: int) -> None:
        """Give a slot back."""
        assert len(self._free) < self.slots
        self._free.append(slot)

    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Put an image, uint8 [H, W, 3], into its slot."""
        self.images[slot] = image

    @abstractmethod
    def gather(self, stage: int, slots: list[int]) -> Arrays:
        """Return the inputs of a stage (from 0) for these slots, by name, read-only.

        Like `scatter`, it can be called from any thread, for slots of the caller's own batch.
        """

    @abstractmethod
    def scatter(
        self,
        stage: int,
        slots: list[int],
        rows: list[int],
        features: Mapping[str, NDArray[np.generic]],
    ) -> None:
        """Keep the features of requests that continue, given their slots and rows."""

    @abstractmethod
    def isolate(self, slots: list[int]) -> None:
        """Let slots that wait long hold no more memory than their own. Called like `scatter`."""


def sizes_up_to(max_batch: int) -> list[int]:
    """Return the batch sizes to measure: powers of two, and the largest."""
    doubled = [1 << bits for bits in range(max_batch.bit_length())]
    return sorted({*doubled, max_batch})
