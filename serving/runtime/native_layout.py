"""Stages in the layout that ONNX Runtime computes in on this CPU.

On a CPU, ONNX Runtime keeps the channels of an image in blocks as wide as the vector registers
(NCHWc). If a bundle's graphs are optimised one by one, features change into that layout and back
at every stage boundary. Here all graphs are joined, optimised as one, and cut again, so that
features stay in blocks. This happens on the serving machine at every start, in less than a second.

In either layout there is one more graph, for requests that evaluate the last exit only:
the whole network without its earlier heads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

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
from offramp.bundle.manifest import TensorSpec, first_stages
from serving.runtime.base import Tensors
from serving.runtime.session import (
    common_weights,
    open_session,
    open_with_weights,
    providers_of,
)
from serving.runtime.stage import Loaded, Stage, Stages, exit_probabilities

NOISE = 3  # images
TOLERANCE = 1e-5  # of a probability; 0 on all machines tried so far
log = logging.getLogger(__name__)
Probabilities = Sequence[NDArray[np.float32]]


class LayoutError(Exception):
    """The stages are not available in the native layout of this machine."""


def portable_stages(loaded: Sequence[Loaded]) -> Stages:
    """Return the stages as they are, and the whole network as one graph."""
    stages = [each.with_trunk() for each in loaded]
    names, last = stages[0].exit, networks(loaded)[-1]
    images = _noise(stages)

    def whole_network() -> Stage:
        outputs = exit_outputs(len(last), names)[-1]
        graph = without_head(join([each.model for each in last], names), outputs)
        session = open_session(Path("all stages"), graph, providers_of("cpu", 0))
        return Stage(session, None, stages[0].inputs, (), outputs)

    def last_exit() -> Probabilities:
        return exit_probabilities(stages, images)[-1:]

    made = None if len(last) == 1 else _whole_network(whole_network, last_exit, images)
    return Stages(stages, made)


def networks(loaded: Sequence[Loaded]) -> list[Sequence[Loaded]]:
    """Return the stages of each network: of a cascade several, otherwise one."""
    stages = [each.stage for each in loaded]
    firsts = first_stages([each.inputs for each in stages], [each.features for each in stages])
    return [loaded[start:end] for start, end in pairwise([*firsts, len(loaded)])]


def optimize_stages(loaded: Sequence[Loaded], like: Stages | None = None) -> Stages:
    """Optimise stages together for this CPU. Return them, and the whole network as one graph.

    All sessions of a network use the same weights. The networks of a cascade are optimised one by
    one. Together, they would hand values on that each can compute from the image.

    Args:
        loaded: All stages of a bundle, on the CPU.
        like: Stages of graphs with other weights, whose features have the same shapes.

    Raises:
        LayoutError: Their outputs differ from those of the portable stages.
        CutError, OSError, ValueError: The stages cannot be made.
    """
    portable = [each.stage for each in loaded]
    images = _noise(portable)
    known = {} if like is None else _specs_of(like)
    optimised = [
        _Network.optimised(each, images, k, known) for k, each in enumerate(networks(loaded))
    ]
    stages = [stage for network in optimised for stage in network.stages]
    found = exit_probabilities(stages, images)
    _check_equal(found, exit_probabilities(portable, images))
    last = optimised[-1]
    if len(last.stages) == 1:  # it is one graph already
        return Stages(stages)
    return Stages(stages, _whole_network(last.whole_network, lambda: found[-1:], images))


@dataclass(frozen=True, slots=True)
class _Network:
    """A network in the native layout: one graph with all its exits, and its stages.

    Attributes:
        exit: Names of the outputs of its last exit.
        weights: Weights that all sessions use.
    """

    whole: ModelProto
    stages: Sequence[Stage]
    exit: tuple[str, ...]
    weights: Mapping[str, ort.OrtValue]

    @classmethod
    def optimised(
        cls,
        loaded: Sequence[Loaded],
        images: Tensors,
        number: int,
        known: Mapping[str, TensorSpec],
    ) -> Self:
        """Optimise the stages of a network. `number` makes its features differ from others'."""
        (image,), names = loaded[0].stage.inputs, loaded[0].stage.exit
        exits = exit_outputs(len(loaded), names)
        whole = _optimised(loaded)
        if number:
            own = {name for outputs in exits for name in outputs}
            inner = [name for name in value_names(whole) if name not in own]
            whole = renamed(whole, {name: f"{number}/{name}" for name in inner})
        weights = common_weights(whole)
        whole = without_weights(whole, weights)
        parts = cut(whole, exits)
        features = _features(parts, exits)
        specs = {image.name: image, **known}
        if not specs.keys() >= set(features):
            specs |= _specs(whole, features, images, weights)
        stages = [
            _stage(part, outputs, specs, weights)
            for part, outputs in zip(parts, exits, strict=True)
        ]
        return cls(whole, stages, exits[-1], weights)

    def whole_network(self) -> Stage:
        """Return the network without its earlier heads as one stage."""
        session = open_with_weights(without_head(self.whole, self.exit), self.weights)
        inputs, weights = self.stages[0].inputs, tuple(self.weights.values())
        return Stage(session, None, inputs, (), self.exit, weights)


def _whole_network(
    make: Callable[[], Stage], last_exit: Callable[[], Probabilities], images: Tensors
) -> Stage | None:
    """Return all stages as one graph, or `None` if it is not available or has other outputs."""
    try:
        whole_network = make()
        _check_equal(exit_probabilities([whole_network], images), last_exit())
    except Exception as error:  # noqa: BLE001 (after any error the stages still work)
        log.warning("all stages in one graph are not available, they run one by one: %s", error)
        return None
    return whole_network


def _noise(stages: Sequence[Stage]) -> Tensors:
    (image,) = stages[0].inputs
    rng = np.random.default_rng(0)
    return {image.name: rng.integers(0, 256, (NOISE, *image.shape), dtype=np.uint8)}


def _optimised(loaded: Sequence[Loaded]) -> ModelProto:
    """Join stages, and optimise them as ONNX Runtime does before it runs a graph, with layouts."""
    graphs, weights = [], dict[str, ort.OrtValue]()
    for k, each in enumerate(loaded, 1):
        own = common_weights(each.model)
        graphs.append(without_weights(each.model, own))
        weights |= {f"{k}/{name}": value for name, value in own.items()}  # as `join` names them
    with TemporaryDirectory(prefix="offramp-") as folder:
        path = Path(folder) / "whole.onnx"
        open_with_weights(join(graphs, loaded[0].stage.exit), weights, path)
        return onnx.load(path)


def _features(parts: Sequence[ModelProto], exits: Sequence[Sequence[str]]) -> list[str]:
    own = {name for outputs in exits for name in outputs}
    return [v.name for part in parts for v in part.graph.output if v.name not in own]


def _specs_of(stages: Stages) -> dict[str, TensorSpec]:
    return {spec.name: spec for stage in stages.each for spec in stage.features}


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
    for name, tensor in zip(names, found, strict=True):
        if tensor.shape[:1] != (NOISE,):
            raise LayoutError(f"{name} is not one tensor for each image: {tensor.shape}")
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
    trunk = open_with_weights(without_head(part, names), weights) if features else None
    whole, held = open_with_weights(part, weights), tuple(weights.values())
    return Stage(whole, trunk, inputs, features, outputs, held)


def _check_equal(found: Probabilities, expected: Probabilities) -> None:
    """Raise LayoutError if probabilities differ by more than the tolerance."""
    for k, (one, other) in enumerate(zip(found, expected, strict=True), 1):
        difference = float(np.abs(one - other).max())
        if not difference <= TOLERANCE:  # in this form NaN fails too
            raise LayoutError(f"exit {k} differs by {difference:.1e}")
