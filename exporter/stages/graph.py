"""Graphs of stages: their nodes, inputs, features, flops, parameters and temperature."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exporter.flops import count_flops
from offramp.bundle.graphs import (
    EXIT_OUTPUTS,
    SCORED_OUTPUTS,
    cut,
    exit_outputs,
    join,
    renamed,
    without_head,
)
from offramp.bundle.manifest import TensorSpec
from offramp.images.reduction import REDUCTION

OPSET = 20
IMAGE, TEMPERATURE = "image", "temperature"
PROBABILITIES, CONFIDENCE = EXIT_OUTPUTS
# After the names of joined graphs. A weight of the network has another, such as `xca.temperature`.
_TEMPERATURE = re.compile(rf"(.*/)?(stages\.[0-9]+\.)?{TEMPERATURE}")
_WEIGHTS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.INT32,
)


@dataclass(slots=True)
class Nodes:
    """Nodes in order of execution, and their weights, for a graph that is built node by node.

    Attributes:
        opset: Version of the operators.
    """

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 (as of `make_node`)
        """Add a node with one output, and return the name of that."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        """Add a weight, and return its name."""
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name


@dataclass(frozen=True, slots=True)
class StageGraph:
    """An exported stage."""

    model: onnx.ModelProto

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Return the inputs, without the batch axis."""
        return _specs(self.model.graph.input)

    @property
    def features(self) -> tuple[TensorSpec, ...]:
        """Return the outputs for later stages, without the batch axis."""
        return _specs(v for v in self.model.graph.output if v.name not in SCORED_OUTPUTS)

    @property
    def flops(self) -> int:
        """Return the multiply-adds for one image."""
        return count_flops(self.model)

    @property
    def head_flops(self) -> int:
        """Return the multiply-adds of the exit head. A stage without features is all head."""
        names = [spec.name for spec in self.features]
        return self.flops - count_flops(without_head(self.model, names)) if names else self.flops

    def serialized(self) -> bytes:
        """Return the bytes of the ONNX file."""
        data: bytes = self.model.SerializeToString(deterministic=True)
        return data


def cut_by_need(blocks: Sequence[StageGraph]) -> list[StageGraph]:
    """Return the same chain with each node in the first stage that needs it for its exit.

    Args:
        blocks: The exported stages, one for each block of the network.
    """
    return stages_by_need(join([block.model for block in blocks]), len(blocks))


def stages_by_need(whole: onnx.ModelProto, exits: int) -> list[StageGraph]:
    """Cut one graph with all exits, the result of `join`, by need."""
    stages = cut(whole, exit_outputs(exits))
    names: dict[str, str] = {}
    for k, (stage, own) in enumerate(zip(stages, exit_outputs(exits), strict=True), 1):
        names |= dict(zip(own, EXIT_OUTPUTS, strict=True))
        features = [value.name for value in stage.graph.output if value.name not in own]
        names |= {name: f"features_{k}_{i}" for i, name in enumerate(features, 1)}
    return [StageGraph(renamed(stage, names)) for stage in stages]


def _specs(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    found = []
    for value in values:
        tensor = value.type.tensor_type
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)[1:]
        found.append(
            TensorSpec.model_validate({"name": value.name, "dtype": dtype, "shape": shape})
        )
    return tuple(found)


def set_temperature(model: onnx.ModelProto, temperature: float) -> None:
    """Set the temperature, by which the graph divides its logits."""
    (initializer,) = (t for t in model.graph.initializer if _TEMPERATURE.fullmatch(t.name))
    value = numpy_helper.from_array(np.array(temperature, dtype=np.float32), initializer.name)
    initializer.CopyFrom(value)


def parameter_count(model: onnx.ModelProto) -> int:
    """Count the numbers in the graph's weights, without scales and zero points of quantisation."""
    scales = {
        name
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in node.input[1:]
    }
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type in _WEIGHTS
        and tensor.name not in scales
        and not tensor.name.endswith(REDUCTION)
    )
