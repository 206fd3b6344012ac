"""A stage, ready to run: with its exit head, or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from offramp.bundle.errors import BundleError, CutError
from offramp.bundle.graphs import EXIT_OUTPUTS, without_head
from offramp.bundle.manifest import Manifest, TensorSpec, read_graph
from serving.runtime.session import check_tensors, open_session, providers_of

Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a stage gives for a batch of N.

    Attributes:
        features: the tensors it hands on, by name, [N, ...].
        probabilities: float32, [N, classes]; None without the head.
        confidence: float32, [N]; NaN where a probability is not finite; None without the head.
    """

    features: Tensors
    probabilities: NDArray[np.float32] | None
    confidence: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Stage:
    """The sessions of one stage.

    Attributes:
        whole: with the head.
        trunk: without; None for the last stage, which is never run so.
        inputs: what both take.
        features: what both give.
        exit: what `whole` gives beside them: the names of probabilities and confidence.
        weights: what sessions share of them; they do not keep it alive.
    """

    whole: ort.InferenceSession
    trunk: ort.InferenceSession | None
    inputs: tuple[TensorSpec, ...]
    features: tuple[TensorSpec, ...]
    exit: tuple[str, ...] = EXIT_OUTPUTS
    weights: tuple[ort.OrtValue, ...] = ()

    def run(self, inputs: Tensors, *, head: bool) -> StageOutput:
        """Run it on its inputs (others are ignored), each [N, ...]."""
        given = {spec.name: inputs[spec.name] for spec in self.inputs}
        names = [spec.name for spec in self.features]
        if not head:
            assert self.trunk is not None
            return StageOutput(
                dict(zip(names, self.trunk.run(names, given), strict=True)), None, None
            )
        *features, probabilities, confidence = self.whole.run([*names, *self.exit], given)
        made = dict(zip(names, features, strict=True))
        return StageOutput(made, probabilities, mark_non_finite(confidence, probabilities))


def mark_non_finite(
    confidence: NDArray[np.float32], probabilities: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The confidence, NaN where a probability is not finite.

    A softmax is NaN throughout where anything is, and of that no confidence in [0, 1] is made:
    almost always, that is all there is to look at.
    """
    if all(0 <= value < 2 for value in confidence.tolist()):  # rounding may pass 1
        return confidence
    sound = np.isfinite(probabilities).all(axis=1)
    return np.where(sound, confidence, np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stage beside the graph it was made of."""

    stage: Stage
    model: ModelProto


@dataclass(frozen=True, slots=True)
class Stages:
    """All stages of a network.

    Attributes:
        each: of them, to be run in a row.
        whole_network: from the image to the last exit as one graph, whose head is that exit; None
            where there is none.
    """

    each: Sequence[Stage]
    whole_network: Stage | None = None


def answers(stages: Sequence[Stage], images: Tensors) -> list[NDArray[np.float32]]:
    """Every exit's probabilities, [N, classes], of stages that run in a row."""
    known, made = dict(images), []
    for stage in stages:
        output = stage.run(known, head=True)
        assert output.probabilities is not None
        made.append(output.probabilities)
        known |= output.features
    return made


def load_stage(folder: Path, manifest: Manifest, k: int) -> Loaded:
    """Stage k (from 0) of a bundle on the CPU; what is loaded are the bytes whose hash was checked.

    Raises:
        BundleError: its graph is damaged, or is not as the manifest describes it.
    """
    providers = providers_of("cpu", 0)
    spec = manifest.stages[k]
    path, graph = folder / spec.file, read_graph(folder, spec)
    whole = open_session(path, graph, providers)
    exit_specs = (
        TensorSpec(name="probabilities", dtype="float32", shape=(len(manifest.labels),)),
        TensorSpec(name="confidence", dtype="float32", shape=()),
    )
    check_tensors(path, "input", whole.get_inputs(), spec.inputs)
    check_tensors(path, "output", whole.get_outputs(), (*spec.features, *exit_specs))
    model = ModelProto.FromString(graph)
    trunk = None
    if spec.features:
        try:
            bare = without_head(model, [feature.name for feature in spec.features])
        except CutError as error:
            raise BundleError(path, f"its head cannot be left out: {error}") from error
        trunk = open_session(path, bare.SerializeToString(), providers)
    return Loaded(Stage(whole, trunk, spec.inputs, spec.features), model)
