"""A chain of stage graphs, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import ArrayLike, NDArray

from exporter.stages.graph import CONFIDENCE, IMAGE, PROBABILITIES, StageGraph

Array = NDArray[np.float32]


class LabelledImages(Protocol):
    """Images uint8 [N, H, W, 3] (RGB) with labels int64 [N], in tensors or arrays."""

    @property
    def pixels(self) -> ArrayLike:
        """The images."""

    @property
    def targets(self) -> ArrayLike:
        """Their labels."""


@dataclass(frozen=True, slots=True)
class ChainOutput:
    """Outputs of every exit: probabilities [exits, N, classes], confidence [exits, N]."""

    probabilities: Array
    confidence: Array

    @property
    def classes(self) -> NDArray[np.int64]:
        """Return the likeliest class of every exit, int64 [exits, N]."""
        classes: NDArray[np.int64] = self.probabilities.argmax(axis=2)
        return classes


def right_classes(targets: ArrayLike, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the labels of images, int64 [N]. If one has none, full depth is right on all.

    Args:
        targets: Labels, int64 [N]. One below 0 is none.
        classes: Likeliest class of every exit for each of them, int64 [exits, N].
    """
    labels: NDArray[np.int64] = np.asarray(targets)
    return labels if (labels >= 0).all() else classes[-1]


def session_options() -> ort.SessionOptions:
    """Return options of sessions that run one after another.

    Each session has threads of its own, which would spin while they have nothing to do, and take
    the cores from the session that runs. Here they sleep.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class Chain:
    """Sessions of ONNX Runtime on the CPU, one for each graph, run one after another."""

    def __init__(self, graphs: Sequence[StageGraph]) -> None:
        self._inputs = [[spec.name for spec in graph.inputs] for graph in graphs]
        self._sessions = [
            ort.InferenceSession(g.serialized(), session_options(), ["CPUExecutionProvider"])
            for g in graphs
        ]

    def stage(self, k: int, known: Mapping[str, NDArray[np.generic]]) -> dict[str, Array]:
        """Run stage k (from 0) and return its outputs by name. `known` has at least its inputs."""
        outputs = [output.name for output in self._sessions[k].get_outputs()]
        inputs = {name: known[name] for name in self._inputs[k]}
        return dict(zip(outputs, self._sessions[k].run(outputs, inputs), strict=True))

    def run(self, pixels: ArrayLike, batch_size: int = 64) -> ChainOutput:
        """Return the outputs of every exit for images uint8 [N, H, W, 3]."""
        return ChainOutput(*self.outputs(pixels, (PROBABILITIES, CONFIDENCE), batch_size))

    def outputs(self, pixels: ArrayLike, names: Sequence[str], batch_size: int = 64) -> list[Array]:
        """Return outputs of all exits by name, each [exits, N, ...], for images [N, H, W, 3]."""
        images = np.asarray(pixels)
        starts = range(0, len(images), batch_size)
        parts = [self._run_batch(images[at : at + batch_size], names) for at in starts]
        return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]

    def _run_batch(self, images: NDArray[np.generic], names: Sequence[str]) -> list[Array]:
        known: dict[str, NDArray[np.generic]] = {IMAGE: images}
        found: list[list[Array]] = [[] for _ in names]
        for k in range(len(self._sessions)):
            outputs = self.stage(k, known)
            known |= outputs
            for values, name in zip(found, names, strict=True):
                values.append(outputs[name])
        return [np.stack(values) for values in found]
