"""A stage on the CPU, ready to run with its exit head or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from offramp.bundle.errors import BundleError, CutError
from offramp.bundle.graphs import EXIT_OUTPUTS, SCORED_OUTPUTS, without_head
from offramp.bundle.manifest import Manifest, TensorSpec
from offramp.bundle.stage_files import read_model
from serving.runtime.base import StageOutput, Tensors
from serving.runtime.session import check_tensors, open_session, providers_of


@dataclass(frozen=True, slots=True)
class Stage:
    """The sessions of one stage.

    Attributes:
        whole: Session with the head.
        trunk: Session without it. `None` for a stage without features: it is all head.
        inputs: Tensors that both read.
        features: Tensors that both give to later stages.
        exit: Names of the probabilities and the confidence, which `whole` gives too. With a third
            name: that of the score.
        weights: Weights that the sessions use and do not keep alive.
    """

    whole: ort.InferenceSession
    trunk: ort.InferenceSession | None
    inputs: tuple[TensorSpec, ...]
    features: tuple[TensorSpec, ...]
    exit: tuple[str, ...] = EXIT_OUTPUTS
    weights: tuple[ort.OrtValue, ...] = ()

    def run(self, inputs: Tensors, *, head: bool) -> StageOutput:
        """Run the stage on its inputs, each [N, ...]. Other tensors are ignored."""
        given = {spec.name: inputs[spec.name] for spec in self.inputs}
        names = [spec.name for spec in self.features]
        if not head:
            made = self.trunk.run(names, given) if self.trunk else ()
            return StageOutput(dict(zip(names, made, strict=True)), None, None)
        outputs = self.whole.run([*names, *self.exit], given)
        probabilities, confidence, *score = outputs[len(names) :]
        features = dict(zip(names, outputs, strict=False))  # those of the exit come last
        confidence = mark_non_finite(confidence, probabilities)
        return StageOutput(features, probabilities, confidence, *score)


def mark_non_finite(
    confidence: NDArray[np.float32], probabilities: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the confidence, with NaN where a probability is not finite.

    A softmax with one NaN is NaN throughout, and its confidence is not in [0, 1]. So the
    probabilities have to be looked at only where a confidence is not.
    """
    if all(0 <= value < 2 for value in confidence.tolist()):  # rounding can exceed 1
        return confidence
    sound = np.isfinite(probabilities).all(axis=1)
    return np.where(sound, confidence, np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stage that runs with its head, and the graph that it was made of.

    Attributes:
        path: File of the graph, for error messages.
    """

    stage: Stage
    model: ModelProto
    path: Path

    def trunk(self) -> ModelProto:
        """Return the graph without its head. The stage has features.

        Raises:
            BundleError: Its head cannot be removed.
        """
        try:
            return without_head(self.model, [spec.name for spec in self.stage.features])
        except CutError as error:
            raise BundleError(self.path, f"its head cannot be removed: {error}") from error

    def with_trunk(self) -> Stage:
        """Return the stage as it also runs without its head.

        Raises:
            BundleError: Its head cannot be removed.
        """
        if not self.stage.features:
            return self.stage
        graph = self.trunk().SerializeToString()
        return replace(self.stage, trunk=open_session(self.path, graph, providers_of("cpu", 0)))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Stages:
    """All stages of a network.

    Attributes:
        each: The stages, in their order.
        whole_network: One graph from the image to the last exit, which is its head. `None`: there
            is no such graph.
        structure: Equal for stages that take the same time. `None`: not known.
    """

    each: Sequence[Stage]
    whole_network: Stage | None = None
    structure: str | None = None


def exit_probabilities(stages: Sequence[Stage], images: Tensors) -> list[NDArray[np.float32]]:
    """Run stages one after another. Return the probabilities of every exit, [N, classes] each."""
    known, found = dict(images), []
    for stage in stages:
        output = stage.run(known, head=True)
        assert output.probabilities is not None
        found.append(output.probabilities)
        known |= output.features
    return found


def _exit_specs(names: Sequence[str], classes: int) -> list[TensorSpec]:
    """Return the outputs of an exit: probabilities of the classes, and numbers."""
    probabilities, *numbers = names
    exit_specs = [TensorSpec(name=probabilities, dtype="float32", shape=(classes,))]
    return exit_specs + [TensorSpec(name=each, dtype="float32", shape=()) for each in numbers]


def load_stage(folder: Path, manifest: Manifest, k: int) -> Loaded:
    """Load stage k (from 0) of a bundle on the CPU, from the same bytes as its hash was checked on.

    Raises:
        BundleError: Its graph is damaged, or differs from its description in the manifest.
    """
    providers = providers_of("cpu", 0)
    spec = manifest.stages[k]
    path, (graph, model) = folder / spec.file, read_model(folder, spec)
    whole = open_session(path, graph, providers)
    scored = manifest.reject is not None and manifest.reject.in_graphs
    names = SCORED_OUTPUTS if scored else EXIT_OUTPUTS
    exit_specs = _exit_specs(names, len(manifest.labels))
    check_tensors(path, "input", whole.get_inputs(), spec.inputs)
    check_tensors(path, "output", whole.get_outputs(), (*spec.features, *exit_specs))
    stage = Stage(whole, None, spec.inputs, spec.features, names)
    assert model is not None  # a session could read it
    return Loaded(stage, model, path)
