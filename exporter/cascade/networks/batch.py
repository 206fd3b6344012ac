"""A network that was exported for a fixed batch, made to take batches of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper

from exporter.cascade.networks.network import inputs_of
from exporter.flops import values_of_black
from exporter.stages.graph import Nodes

BATCH = "batch"
_BATCHES = "batches_of"  # begins names of values that are added
_SHAPES = ("Shape", "Size")


def with_batch_axis(model: ModelProto, fixed: int | None, size: int) -> ModelProto:
    """Return the model with a dynamic batch axis, and with images of one size.

    Where a Reshape states the batch, it takes that of its input. Where a constant, such as the
    token of a class, is joined to each image of a batch of 1, it is repeated. A network that needs
    its batch elsewhere gives other answers then, or none, which the comparison with its file finds.

    Args:
        model: The network, with one input.
        fixed: Size of the batch that it was exported for. `None`: the axis is dynamic already.
        size: Height and width of the images.
    """
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    (image,) = inputs_of(made)
    del graph.value_info[:]  # the shapes are those of the old batch
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    axes = image.type.tensor_type.shape.dim
    for axis in axes[1:]:
        if axis.dim_value != 3:
            axis.dim_value = size
    if fixed is not None:
        axes[0].dim_value = fixed
        _free(made, fixed, image.name)
    axes[0].dim_param = BATCH
    return made


def _free(model: ModelProto, fixed: int, image: str) -> None:
    """Let the batch of each value follow that of the image."""
    graph, nodes = model.graph, []
    varying = _varying(graph, image)
    known = dict(_constants(model))
    known |= _computed(model, [n for n in _asked(graph, varying) if n not in known])
    for number, node in enumerate(graph.node):
        if node.op_type == "Reshape" and node.input[0] in varying:
            target = _free_target(known[node.input[1]], fixed)
            if target is not None:
                # with this attribute, 0 is an empty axis
                _without_attribute(node, "allowzero")
                node.input[1] = f"{_BATCHES}_{number}"
                graph.initializer.append(numpy_helper.from_array(target, node.input[1]))
        elif node.op_type == "Concat" and fixed == 1 and (like := _joined_to(node, varying)):
            nodes += _repeat(graph, node, like, varying, known[like].ndim)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _varying(graph: GraphProto, image: str) -> set[str]:
    """Return the values that depend on the pixels of the image."""
    varying = {image}
    for node in graph.node:
        if node.op_type not in _SHAPES and varying.intersection(node.input):
            varying.update(node.output)
    return varying


def _asked(graph: GraphProto, varying: set[str]) -> Iterator[str]:
    """Yield the targets of all Reshapes, and the values that constants are joined to."""
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[0] in varying:
            yield node.input[1]
        elif node.op_type == "Concat" and (like := _joined_to(node, varying)):
            yield like


def _joined_to(concat: NodeProto, varying: set[str]) -> str | None:
    """Return a value that a Concat joins a constant to, `None` if it joins none."""
    own = [name for name in concat.input if name in varying]
    return own[0] if 0 < len(own) < len(concat.input) else None


def _computed(model: ModelProto, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    return values_of_black(model, list(dict.fromkeys(names))) if names else {}


def _constants(model: ModelProto) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield the weights and the outputs of Constant nodes."""
    for tensor in model.graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.type == AttributeProto.TENSOR:
                yield node.output[0], numpy_helper.to_array(attribute.t)
            elif attribute.type == AttributeProto.INTS:
                yield node.output[0], np.array(attribute.ints, np.int64)


def _free_target(target: NDArray[np.generic], fixed: int) -> NDArray[np.int64] | None:
    """Return the shape of a Reshape whose first axis has the batch, `None` if it is free already.

    The first axis can be a multiple of the batch, such as all windows of all images.
    """
    free: NDArray[np.int64] = target.astype(np.int64)
    if not free.size or free[0] <= 0 or free[0] % fixed:
        return None
    if (free == -1).any():
        if free[0] != fixed:
            return None
        free[0] = 0  # as the input has
    else:
        free[0] = -1
    return free


def _without_attribute(node: NodeProto, name: str) -> None:
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _repeat(
    graph: GraphProto, concat: NodeProto, like: str, varying: set[str], rank: int
) -> list[NodeProto]:
    """Let a Concat read its constants once for each image, and return the nodes that do so."""
    if helper.get_node_attr_value(concat, "axis") % rank == 0:
        return []
    nodes, name = Nodes(0), f"{_BATCHES}_{concat.output[0]}"
    shape = nodes.add("Shape", [like], f"{name}_shape")
    first = nodes.weight(f"{name}_first", np.array([0]))
    batch = nodes.add("Gather", [shape, first], f"{name}_size")
    ones = nodes.weight(f"{name}_ones", np.ones(rank - 1, np.int64))
    sizes = nodes.add("Concat", [batch, ones], f"{name}_sizes", axis=0)
    for k, each in enumerate(concat.input):
        if each not in varying:
            concat.input[k] = nodes.add("Expand", [each, sizes], f"{name}_{k}")
    graph.initializer.extend(nodes.weights)
    return nodes.nodes
