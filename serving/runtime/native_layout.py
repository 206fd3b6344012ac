"""Stages in the layout that ONNX Runtime computes in on this CPU.

On a CPU, ONNX Runtime keeps the channels of an image in blocks as wide as the vector registers
(NCHWc), and a bundle's graphs, optimised one by one, turn features into that layout and back at
every boundary. Here all of them are joined, optimised as one graph, and that is cut: features
stay in blocks. Made on the machine that serves, at every start, in a fraction of a second.

For requests that ask no exit but the last there is one graph more, in either layout: the whole,
less the heads on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

from offramp.bundle.graphs import cut, exit_outputs, join, without_head
from offramp.bundle.manifest import TensorSpec
from serving.runtime.session import (
    CPU,
    open_session,
    providers_of,
    session_options,
    share,
    shared_weights,
)
from serving.runtime.stage import Loaded, Stage, Stages, Tensors, answers

NOISE = 3  # images
TOLERANCE = 1e-5  # of a probability; what we have seen is 0
log = logging.getLogger(__name__)
Answers = Sequence[NDArray[np.float32]]


class LayoutError(Exception):
    """The stages cannot be had in the machine's own layout."""


def portable_stages(loaded: Sequence[Loaded]) -> Stages:
    """The stages as they are, and the way through them."""
    stages = [each.stage for each in loaded]
    images = _noise(stages)

    def whole_network() -> Stage:
        outputs = exit_outputs(len(loaded))[-1]
        graph = without_head(join([each.model for each in loaded]), outputs)
        session = open_session(Path("all stages"), graph, providers_of("cpu", 0))
        return Stage(session, None, stages[0].inputs, (), outputs)

    return Stages(stages, _whole_network(whole_network, stages, images))


def optimize_stages(loaded: Sequence[Loaded]) -> Stages:
    """The same stages, optimised together for this CPU, and the way through them.

    All sessions hold their weights in common.

    Args:
        loaded: all stages of a bundle, on the CPU.

    Raises:
        LayoutError: what they give is not what the portable ones do.
        CutError, OSError, ValueError: they cannot be made.
    """
    exits = exit_outputs(len(loaded))
    portable = [each.stage for each in loaded]
    ((image,), images) = portable[0].inputs, _noise(portable)
    whole = _optimised(join([each.model for each in loaded]))
    parts = cut(whole, exits)
    specs = {image.name: image} | _specs(whole, parts, exits, images)
    weights = shared_weights(whole)
    stages = [
        _stage(part, outputs, specs, weights) for part, outputs in zip(parts, exits, strict=True)
    ]
    _agree(answers(stages, images), answers(portable, images))

    def whole_network() -> Stage:
        session = _open(without_head(whole, exits[-1]), weights)
        return Stage(session, None, (image,), (), exits[-1], tuple(weights.values()))

    return Stages(stages, _whole_network(whole_network, stages, images))


def _whole_network(
    make: Callable[[], Stage], stages: Sequence[Stage], images: Tensors
) -> Stage | None:
    """All stages as one, if that answers as they do; of a single stage there is none."""
    if len(stages) == 1:
        return None
    try:
        whole_network = make()
        _agree(answers([whole_network], images), answers(stages, images)[-1:])
    except Exception as error:  # noqa: BLE001 (whatever it is, the stages are good)
        log.warning("all stages in one graph cannot be had, they run one by one: %s", error)
        return None
    return whole_network


def _noise(stages: Sequence[Stage]) -> Tensors:
    (image,) = stages[0].inputs
    rng = np.random.default_rng(0)
    return {image.name: rng.integers(0, 256, (NOISE, *image.shape), dtype=np.uint8)}


def _optimised(whole: ModelProto) -> ModelProto:
    """What ONNX Runtime makes of a graph before it runs it, kernels' layouts included."""
    with TemporaryDirectory(prefix="offramp-") as folder:
        path = Path(folder) / "whole.onnx"
        options = session_options()
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(whole.SerializeToString(), options, providers=[CPU])
        return onnx.load(path)


def _open(model: ModelProto, weights: Mapping[str, ort.OrtValue]) -> ort.InferenceSession:
    options = session_options(optimise=False)
    share(options, model, weights)
    return ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])


def _specs(
    whole: ModelProto, parts: Sequence[ModelProto], exits: Sequence[Sequence[str]], images: Tensors
) -> dict[str, TensorSpec]:
    """The features as they really are: shapes of blocked tensors are written down nowhere."""
    own = {name for outputs in exits for name in outputs}
    names = [v.name for part in parts for v in part.graph.output if v.name not in own]
    probe = ModelProto()
    probe.CopyFrom(whole)
    probe.graph.output.extend(ValueInfoProto(name=name) for name in names)
    found = _open(probe, {}).run(names, dict(images))
    for name, tensor in zip(names, found, strict=True):
        if tensor.shape[:1] != (NOISE,):
            raise LayoutError(f"{name} is no tensor of each image: {tensor.shape}")
    return {
        name: TensorSpec.model_validate(
            {"name": name, "dtype": str(tensor.dtype), "shape": tensor.shape[1:]}
        )
        for name, tensor in zip(names, found, strict=True)
    }


def _stage(
    part: ModelProto,
    outputs: tuple[str, ...],
    specs: Mapping[str, TensorSpec],
    weights: Mapping[str, ort.OrtValue],
) -> Stage:
    for value in (*part.graph.input, *part.graph.output):
        if value.name in specs:
            dtype = np.dtype(specs[value.name].dtype)
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(dtype)
    inputs = tuple(specs[value.name] for value in part.graph.input)
    features = tuple(specs[v.name] for v in part.graph.output if v.name not in outputs)
    names = [spec.name for spec in features]
    trunk = _open(without_head(part, names), weights) if features else None
    return Stage(_open(part, weights), trunk, inputs, features, outputs, tuple(weights.values()))


def _agree(found: Answers, expected: Answers) -> None:
    """Raise LayoutError unless they are the same."""
    for k, (one, other) in enumerate(zip(found, expected, strict=True), 1):
        difference = float(np.abs(one - other).max())
        if not difference <= TOLERANCE:  # so written, NaN fails
            raise LayoutError(f"exit {k} differs by {difference:.1e}")
