"""Evaluate every exit of a bundle on images, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from offramp.load.outcomes import Floats, Integers
from serving.images.decoder import decode
from serving.runtime.cpu import CpuRuntime

MAX_PIXELS = 25_000_000
Pixels = NDArray[np.uint8]
Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class ExitOutputs:
    """Outputs of every exit for N images.

    Attributes:
        confidence: Confidence, [exits, N].
        index: Predicted class, [exits, N].
        probability: Probability of that class, [exits, N].
    """

    confidence: Floats
    index: Integers
    probability: Floats

    def exits(self, thresholds: Sequence[float]) -> Integers:
        """Return the exit, from 0, at which each image leaves, [N]."""
        leaves: Integers = (self.confidence >= np.array(thresholds)[:, None]).argmax(axis=0)
        return leaves

    def margin(self, thresholds: Sequence[float]) -> Floats:
        """Return the least distance of a confidence to its threshold, up to the exit taken, [N]."""
        distance = np.abs(self.confidence - np.array(thresholds)[:, None])[:-1]
        later = np.arange(len(distance))[:, None] > self.exits(thresholds)
        nearest: Floats = np.where(later, np.inf, distance).min(axis=0, initial=np.inf)
        return nearest


def pixels(files: Sequence[bytes], manifest: Manifest) -> Pixels:
    """Decode image files to the input of stage 1, uint8 [N, H, W, 3]."""
    return np.stack([decode(file, manifest.input, MAX_PIXELS) for file in files])


def evaluate(folder: Path, manifest: Manifest, images: Pixels, batch: int = 8) -> ExitOutputs:
    """Run images [N, H, W, 3] to the last exit, in batches, and return every exit's outputs."""
    chain = Chain(CpuRuntime(folder, manifest))
    confidence, index, probability = [], [], []
    for start in range(0, len(images), batch):
        runs = list(chain.run(images[start : start + batch]))
        confidence.append([run.confidence for run in runs])
        stacked = np.stack([run.probabilities for run in runs if run.probabilities is not None])
        index.append(stacked.argmax(2))
        probability.append(stacked.max(2))
    return ExitOutputs(
        np.concatenate([np.array(each, np.float64) for each in confidence], axis=1),
        np.concatenate(index, axis=1),
        np.concatenate(probability, axis=1).astype(np.float64),
    )


@dataclass(frozen=True, slots=True)
class StageRun:
    """Inputs of a stage and outputs of its exit, [N, ...] each.

    Attributes:
        inputs: Tensors by name.
        probabilities: Probabilities, or `None` where the exit was not evaluated.
        confidence: Confidence, or `None` where the exit was not evaluated.
    """

    inputs: Tensors
    probabilities: NDArray[np.float32] | None
    confidence: NDArray[np.float32] | None


class Chain:
    """Stages of a bundle, run one after another."""

    def __init__(self, runtime: CpuRuntime) -> None:
        self.runtime = runtime

    def run(self, images: Pixels, thresholds: Sequence[float] | None = None) -> Iterator[StageRun]:
        """Run stage after stage.

        With thresholds a stage runs for the images only that did not leave before it. An exit
        with a threshold above 1, at which no image can leave, is not evaluated.
        """
        last = len(self.runtime.inputs) - 1
        known: dict[str, NDArray[np.generic]] = {self.runtime.inputs[0][0].name: images}
        for k, specs in enumerate(self.runtime.inputs):
            inputs = {spec.name: known[spec.name] for spec in specs}
            head = thresholds is None or k == last or thresholds[k] <= 1
            made = self.runtime.run(k, inputs, head=head)
            yield StageRun(inputs, made.probabilities, made.confidence)
            known |= made.features
            if thresholds is not None and made.confidence is not None:
                remaining = made.confidence < thresholds[k]
                known = {name: tensor[remaining] for name, tensor in known.items()}
                if not remaining.any():
                    return
