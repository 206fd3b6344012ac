"""What a bundle says of images without a server: every exit's opinion, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.generator.outcomes import Floats, Integers
from offramp.bundle.manifest import Manifest
from serving.images.decoder import decode
from serving.runtime.cpu import CpuRuntime

MAX_PIXELS = 25_000_000
Pixels = NDArray[np.uint8]
Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Opinions:
    """Of every exit: confidence [exits, N], class [exits, N], its probability [exits, N]."""

    confidence: Floats
    index: Integers
    probability: Floats

    def exits(self, thresholds: Sequence[float]) -> Integers:
        """The exit, from 0, at which each image leaves, [N]."""
        leaves: Integers = (self.confidence >= np.array(thresholds)[:, None]).argmax(axis=0)
        return leaves

    def margin(self, thresholds: Sequence[float]) -> Floats:
        """How near the confidence came to a threshold on the way, [N]."""
        distance = np.abs(self.confidence - np.array(thresholds)[:, None])[:-1]
        later = np.arange(len(distance))[:, None] > self.exits(thresholds)
        nearest: Floats = np.where(later, np.inf, distance).min(axis=0, initial=np.inf)
        return nearest


def pixels(files: Sequence[bytes], manifest: Manifest) -> Pixels:
    """Image files as stage 1 takes them, uint8 [N, H, W, 3]."""
    return np.stack([decode(file, manifest.input, MAX_PIXELS) for file in files])


def evaluate(folder: Path, manifest: Manifest, images: Pixels, batch: int = 8) -> Opinions:
    """Every exit's opinion of images."""
    chain = Chain(CpuRuntime(folder, manifest))
    confidence, index, probability = [], [], []
    for start in range(0, len(images), batch):
        outputs = list(chain.run(images[start : start + batch]))
        confidence.append([said.confidence for said in outputs])
        given = np.stack([said.probabilities for said in outputs if said.probabilities is not None])
        index.append(given.argmax(2))
        probability.append(given.max(2))
    return Opinions(
        np.concatenate([np.array(each, np.float64) for each in confidence], axis=1),
        np.concatenate(index, axis=1),
        np.concatenate(probability, axis=1).astype(np.float64),
    )


@dataclass(frozen=True, slots=True)
class Said:
    """What a stage was given and what its exit said (None: not asked); [N, ...] each."""

    inputs: Tensors
    probabilities: NDArray[np.float32] | None
    confidence: NDArray[np.float32] | None


class Chain:
    """The stages of a bundle in a row."""

    def __init__(self, runtime: CpuRuntime) -> None:
        self.runtime = runtime

    def run(self, images: Pixels, thresholds: Sequence[float] | None = None) -> Iterator[Said]:
        """Stage after stage; with thresholds, for those images only that have not left.

        An exit at which nobody may leave is not asked.
        """
        last = len(self.runtime.inputs) - 1
        known: dict[str, NDArray[np.generic]] = {self.runtime.inputs[0][0].name: images}
        for k, specs in enumerate(self.runtime.inputs):
            inputs = {spec.name: known[spec.name] for spec in specs}
            head = thresholds is None or k == last or thresholds[k] <= 1
            made = self.runtime.run(k, inputs, head=head)
            yield Said(inputs, made.probabilities, made.confidence)
            known |= made.features
            if thresholds is not None and made.confidence is not None:
                stay = made.confidence < thresholds[k]
                known = {name: tensor[stay] for name, tensor in known.items()}
                if not stay.any():
                    return
