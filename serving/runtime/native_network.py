"""A network in the layout that ONNX Runtime computes in on this CPU: optimised whole, then cut."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from offramp.bundle.graphs import (
    cut,
    exit_outputs,
    join,
    renamed,
    value_names,
    without_head,
    without_weights,
)
from offramp.bundle.manifest import TensorSpec
from serving.runtime.base import Tensors
from serving.runtime.ready_graphs import ReadyGraph, ReadyNetwork, ReadyStage
from serving.runtime.session import aligned, open_with_weights, ort_values, weights_of
from serving.runtime.stage import Loaded

NOISE = 3  # images on which features are measured and outputs compared


class LayoutError(Exception):
    """The stages are not available in the native layout of this machine."""


def optimise_network(
    loaded: Sequence[Loaded], images: Tensors, number: int, known: Mapping[str, TensorSpec]
) -> ReadyNetwork:
    """Optimise the stages of a network as one graph, and cut it into stages again.

    Args:
        loaded: The stages.
        images: Images to measure features on.
        number: Number of the network. It makes its features differ from those of others.
        known: Features whose shapes are known.
    """
    (image,), names = loaded[0].stage.inputs, loaded[0].stage.exit
    exits = exit_outputs(len(loaded), names)
    whole = _optimised(loaded)
    if number:
        whole = _numbered(whole, exits, number)
    weights = aligned(weights_of(whole))
    whole = without_weights(whole, weights)
    parts = cut(whole, exits)
    features = _features(parts, exits)
    specs = {image.name: image, **known}
    if not specs.keys() >= set(features):
        specs |= _specs(whole, features, images, ort_values(weights))
    stages = tuple(
        _stage(part, outputs, specs, weights) for part, outputs in zip(parts, exits, strict=True)
    )
    if len(stages) == 1:  # it is one graph already
        return ReadyNetwork(stages, None, weights)
    last = ReadyGraph.of(without_head(whole, exits[-1]), weights)
    together = ReadyStage(last, None, stages[0].inputs, (), exits[-1])
    return ReadyNetwork(stages, together, weights)


def _optimised(loaded: Sequence[Loaded]) -> ModelProto:
    """Join stages, and optimise them as ONNX Runtime does before it runs a graph, with layouts."""
    graphs, weights = [], dict[str, ort.OrtValue]()
    for k, each in enumerate(loaded, 1):
        own = ort_values(weights_of(each.model))
        graphs.append(without_weights(each.model, own))
        weights |= {f"{k}/{name}": value for name, value in own.items()}  # as `join` names them
    with TemporaryDirectory(prefix="offramp-") as folder:
        path = Path(folder) / "whole.onnx"
        open_with_weights(join(graphs, loaded[0].stage.exit), weights, path)
        return onnx.load(path)


def _features(parts: Sequence[ModelProto], exits: Sequence[Sequence[str]]) -> list[str]:
    own = {name for outputs in exits for name in outputs}
    return [v.name for part in parts for v in part.graph.output if v.name not in own]


def _numbered(whole: ModelProto, exits: Sequence[Sequence[str]], number: int) -> ModelProto:
    """Give the inner values of a network names that those of another network do not have."""
    own = {name for outputs in exits for name in outputs}
    inner = [name for name in value_names(whole) if name not in own]
    return renamed(whole, {name: f"{number}/{name}" for name in inner})


def _specs(
    whole: ModelProto,
    names: Sequence[str],
    images: Tensors,
    weights: Mapping[str, ort.OrtValue],
) -> dict[str, TensorSpec]:
    """Run the graph once to get the features' shapes, because no file states blocked ones."""
    probe = ModelProto()
    probe.CopyFrom(whole)
    probe.graph.output.extend(ValueInfoProto(name=name) for name in names)
    found = open_with_weights(probe, weights).run(names, dict(images))
    return {name: _spec_of(name, each) for name, each in zip(names, found, strict=True)}


def _spec_of(name: str, tensor: NDArray[np.generic]) -> TensorSpec:
    if tensor.shape[:1] != (NOISE,):
        raise LayoutError(f"{name} is not one tensor for each image: {tensor.shape}")
    dtype, shape = str(tensor.dtype), tensor.shape[1:]
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": shape})


def _stage(
    part: ModelProto,
    outputs: tuple[str, ...],
    specs: Mapping[str, TensorSpec],
    weights: Container[str],
) -> ReadyStage:
    _state_dtypes(part, specs)
    inputs = tuple(specs[value.name] for value in part.graph.input)
    features = tuple(specs[v.name] for v in part.graph.output if v.name not in outputs)
    names = [spec.name for spec in features]
    trunk = ReadyGraph.of(without_head(part, names), weights) if features else None
    return ReadyStage(ReadyGraph.of(part, weights), trunk, inputs, features, outputs)


def _state_dtypes(part: ModelProto, specs: Mapping[str, TensorSpec]) -> None:
    """Write the dtypes of features into a graph, which does not state those of blocked ones."""
    for value in (*part.graph.input, *part.graph.output):
        if value.name in specs:
            dtype = np.dtype(specs[value.name].dtype)
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(dtype)
