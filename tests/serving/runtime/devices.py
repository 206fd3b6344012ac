"""The runtime for CUDA, here mostly on the CPU's provider, and what tests read from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.runtime.base import Runtime, Slots, StageOutput
from serving.runtime.cuda.runtime import CudaRuntime
from serving.runtime.cuda.slots import CudaSlots, Device
from serving.settings import Provider
from tests.serving.small_bundle import random_images

Expected = NDArray[np.float32]
IMAGES = random_images(24, 3)


def on_device(
    bundle: Path,
    manifest: Manifest,
    slots: int = 64,
    max_batch: int = 8,
    device: Provider = "cpu",
) -> tuple[CudaRuntime, CudaSlots]:
    pool = CudaSlots(
        [stage.inputs for stage in manifest.stages],
        [stage.features for stage in manifest.stages],
        slots,
        Device(device),
    )
    return CudaRuntime(bundle, manifest, pool, max_batch), pool


def put(pool: Slots, images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> list[int]:
    slots = pool.take(len(images))
    for slot, image in zip(slots, images, strict=True):
        pool.put(slot, image)
    return slots


def chain(runtime: Runtime, pool: Slots, slots: list[int]) -> list[StageOutput]:
    return [runtime.run(stage, pool.gather(stage, slots)) for stage in range(4)]


def exit_of(output: StageOutput) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the probabilities and the confidence of an output with the head."""
    assert output.probabilities is not None
    assert output.confidence is not None
    return output.probabilities, output.confidence
