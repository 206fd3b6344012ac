"""Shapes of the values of a graph for one image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto, helper

Shapes = dict[str, list[int]]


def shapes_of_one_image(model: ModelProto, names: Sequence[str]) -> Shapes:
    """Return the shapes of these values, for a batch of 1.

    Where shape inference cannot tell a shape, such as that of a Pad whose pads are computed, the
    graph is run on a black image.
    """
    single = ModelProto()
    single.CopyFrom(model)
    # shapes noted for a dynamic batch: in attention, inner ones are unknown
    del single.graph.value_info[:]
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    shapes = dict(_inferred(single))
    missing = [name for name in names if name not in shapes]
    found = values_of_black(single, missing) if missing else {}
    return shapes | {name: list(value.shape) for name, value in found.items()}


def _inferred(model: ModelProto) -> Iterator[tuple[str, list[int]]]:
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError:  # it knows less than ONNX Runtime
        graph = model.graph
    yield from _known((*graph.value_info, *graph.input, *graph.output))
    yield from ((tensor.name, list(tensor.dims)) for tensor in graph.initializer)


def _known(values: Iterable[ValueInfoProto]) -> Iterator[tuple[str, list[int]]]:
    for value in values:
        tensor, shape = value.type.tensor_type, _shape(value)
        if tensor.HasField("shape") and all(shape):
            yield value.name, shape


def _shape(value: ValueInfoProto) -> list[int]:
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]


def values_of_black(model: ModelProto, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Run a graph on zeros, and return these values. All axes of its inputs are fixed."""
    shown = ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(shown.SerializeToString(), options, ["CPUExecutionProvider"])
    weights = {tensor.name for tensor in model.graph.initializer}
    zeros = {
        value.name: np.zeros(
            _shape(value), helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        )
        for value in model.graph.input
        if value.name not in weights
    }
    return dict(zip(names, session.run(names, zeros), strict=True))
