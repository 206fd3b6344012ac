"""A network that was exported for a fixed batch, made to take batches of any size."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, numpy_helper

from exporter.cascade.network import inputs_of

BATCH = "batch"


def with_batch_axis(model: ModelProto, fixed: int | None, size: int) -> ModelProto:
    """Return the model with a dynamic batch axis, and with images of one size.

    Where a Reshape states the batch, it takes that of its input. A network that needs its batch
    elsewhere gives other answers then, or none, which the comparison with its file finds.

    Args:
        model: The network, with one input.
        fixed: Size of the batch that it was exported for. `None`: the axis is dynamic already.
        size: Height and width of the images.
    """
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    del graph.value_info[:]  # the shapes are those of the old batch
    for value in inputs_of(made):
        axes = value.type.tensor_type.shape.dim
        axes[0].dim_param = BATCH
        for axis in axes[1:]:
            if axis.dim_value != 3:
                axis.dim_value = size
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    if fixed is not None:
        _free_reshapes(made, fixed)
    return made


def _free_reshapes(model: ModelProto, fixed: int) -> None:
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.type == AttributeProto.TENSOR
    }
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[0] in weights or node.input[0] in constants:
            continue
        shape = weights.get(node.input[1]) or constants.get(node.input[1])
        if shape is None:
            continue
        target = numpy_helper.to_array(shape).copy()
        if target.ndim and len(target) and target[0] == fixed:
            target[0] = 0  # as the input has, unless this attribute makes it an empty axis
            kept = [each for each in node.attribute if each.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.input[1] = f"{node.input[1]}_of_batch_{number}"
            graph.initializer.append(_tensor(target, node.input[1]))


def _tensor(values: np.typing.NDArray[np.int64], name: str) -> TensorProto:
    return numpy_helper.from_array(values.astype(np.int64), name)
