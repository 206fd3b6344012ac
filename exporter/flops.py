"""Multiply-adds of a graph for one image, counted on its nodes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, ValueInfoProto, helper

from offramp.images.reduction import REDUCTION

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # and which input is the weight
_PRODUCTS = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
Shapes = dict[str, list[int]]


def count_flops(model: onnx.ModelProto) -> int:
    """Count the multiply-adds of convolutions and matrix products for one image.

    They are counted on the graph, so unused nodes that the exporter removed do not count. Where
    shape inference cannot tell a shape, such as that of a Pad whose pads are computed, the graph is
    run on a black image.
    """
    shapes = _shapes_of_one_image(model)
    total = 0
    for node in model.graph.node:
        if any(name.endswith(REDUCTION) for name in node.input):
            continue
        if node.op_type in _CONVOLUTIONS:
            # weight: [out, in / groups, *kernel]
            weight = shapes[node.input[_CONVOLUTIONS[node.op_type]]]
            total += math.prod(shapes[node.output[0]]) * math.prod(weight[1:])
        elif node.op_type in _PRODUCTS:
            first = shapes[node.input[0]]
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += math.prod(shapes[node.output[0]]) * first[0 if transposed else -1]
    return total


def _shapes_of_one_image(model: ModelProto) -> Shapes:
    """Return the shape of every value that the flops depend on, for a batch of 1."""
    single = ModelProto()
    single.CopyFrom(model)
    # shapes noted for a dynamic batch: in attention, inner ones are unknown
    del single.graph.value_info[:]
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    shapes = {value.name: shape for value in values if all(shape := _shape(value))}
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    missing = [name for name in _values_of_products(single) if name not in shapes]
    return shapes | (_shapes_of_a_run(single, missing) if missing else {})


def _shape(value: ValueInfoProto) -> list[int]:
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]


def _values_of_products(model: ModelProto) -> list[str]:
    """Return the names of the inputs and outputs of convolutions and matrix products."""
    nodes = (n for n in model.graph.node if n.op_type in (*_CONVOLUTIONS, *_PRODUCTS))
    names = (name for node in nodes for name in (*node.input, *node.output))
    return [name for name in dict.fromkeys(names) if name]


def _shapes_of_a_run(model: ModelProto, names: list[str]) -> Shapes:
    """Run a graph on zeros, and return the shapes of these values."""
    shown = ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(shown.SerializeToString(), options, ["CPUExecutionProvider"])
    zeros = {
        value.name: np.zeros(
            _shape(value), helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        )
        for value in model.graph.input
    }
    return {
        name: list(array.shape)
        for name, array in zip(names, session.run(names, zeros), strict=True)
    }
