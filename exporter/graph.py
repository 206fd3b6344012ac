"""Export stage modules as ONNX graphs, and read inputs, features and flops from a graph."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from exporter.stage_modules import SideBySide, StageModule
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

OPSET = 20
IMAGE, TEMPERATURE = "image", "temperature"
BATCH = "batch"
_READ = "read_"  # prefix of inputs while all stages are in one graph
PROBABILITIES, CONFIDENCE = EXIT_OUTPUTS
_WEIGHTS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT32,
)


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


def export_stages(modules: Sequence[StageModule], size: int) -> list[StageGraph]:
    """Export a chain of stages.

    All stages are exported side by side in one call, because torch's exporter parses the source of
    500 operators in each call.

    Args:
        modules: The result of `exporter.stage_modules.split`.
        size: Height and width of the image, in pixels.
    """
    # the exporter would treat a batch of 1 as a constant
    tensors: list[tuple[Tensor, ...]] = [(torch.zeros(2, size, size, 3, dtype=torch.uint8),)]
    names = [[IMAGE]]
    with torch.no_grad():
        for k, module in enumerate(modules, 1):
            tensors.append(module(*tensors[-1])[:-2])
            names.append([f"features_{k}_{i}" for i in range(1, len(tensors[-1]) + 1)])
    exits = exit_outputs(len(modules))
    outputs = [[*features, *scores] for features, scores in zip(names[1:], exits, strict=True)]
    inputs = [[f"{_READ}{name}" for name in each] for each in names[:-1]]
    whole = _export(modules, tensors[:-1], inputs, outputs)
    values, graphs = {value.name: value for value in whole.graph.input}, []
    for k, stage in enumerate(cut(whole, outputs)):
        del stage.graph.input[:]  # in the module's order, with those that it does not use
        stage.graph.input.extend(values[name] for name in inputs[k])
        new = dict(zip(inputs[k], names[k], strict=True))
        new |= dict(zip(exits[k], EXIT_OUTPUTS, strict=True))
        new |= {t.name: t.name.removeprefix(f"stages.{k}.") for t in stage.graph.initializer}
        graphs.append(StageGraph(_with_batch(renamed(stage, new))))
    return graphs


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


def _export(
    modules: Sequence[StageModule],
    tensors: Sequence[tuple[Tensor, ...]],
    inputs: Sequence[Sequence[str]],
    outputs: Sequence[Sequence[str]],
) -> onnx.ModelProto:
    """Export stages side by side. Tensors and names are given for each stage."""
    assert not any(module.training for module in modules), "batch norm would be in training mode"
    # with one name for all, a stage would read its batch size from the inputs of the first
    batches = [torch.export.Dim(f"{BATCH}_{k}", min=1) for k in range(len(modules))]
    shapes = tuple({0: b} for b, each in zip(batches, tensors, strict=True) for _ in each)
    with warnings.catch_warnings():
        # the exporter's internals use deprecated parts of torch and onnxscript
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            SideBySide(modules, [len(each) for each in tensors]).eval(),
            tuple(chain.from_iterable(tensors)),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=list(chain.from_iterable(inputs)),
            output_names=list(chain.from_iterable(outputs)),
            dynamic_shapes={"features": shapes},
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


def _with_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a stage whose batch axis has the same name in all stages, after a check."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith(f"{BATCH}_"):
                dim.dim_param = BATCH
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove metadata that describes the exporting machine and code."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


def set_temperature(model: onnx.ModelProto, temperature: float) -> None:
    """Set the temperature, by which the graph divides its logits."""
    (initializer,) = (t for t in model.graph.initializer if t.name.endswith(TEMPERATURE))
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
        if tensor.data_type in _WEIGHTS and tensor.name not in scales
    )


def count_flops(model: onnx.ModelProto) -> int:
    """Count the multiply-adds of convolutions and matrix products for one image.

    They are counted on the graph, so unused nodes that the exporter removed do not count.
    """
    shapes = _shapes_of_one_image(model)
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            # weight: [out, in / groups, *kernel]
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            first = shapes[node.input[0]]
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += math.prod(shapes[node.output[0]]) * first[0 if transposed else -1]
    return total


def _shapes_of_one_image(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Return the shape of every value in a graph for a batch of 1."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    # shapes noted for a dynamic batch: in attention, inner ones are unknown
    del single.graph.value_info[:]
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    assert all(all(shape) for shape in shapes.values()), "shape inference is incomplete"
    return shapes | {t.name: list(t.dims) for t in inferred.initializer}
