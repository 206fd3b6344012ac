"""A stage's graph, changed to read and write rows of tensors that stay on the device.

    slots [batch] ──► Gather ◄── pool/x [rows, ...]            features that the stage reads
    stage's feature y ──► ScatterND ◄── pool/y [rows, ...]     features that it gives
                              └──► kept/y, bound to the memory of pool/y

ScatterND copies the tensor that it changes unless its output is the same memory. Bound to it, it
writes the batch's rows and no others. Every request's features go to the row of its slot, and
nothing moves when other requests of the batch leave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from offramp.bundle.graphs import EXIT_OUTPUTS
from offramp.bundle.manifest import TensorSpec

SLOTS = "slots"
PROBABILITIES, CONFIDENCE = EXIT_OUTPUTS
RANKED = ("ranked_probabilities", "ranked_classes")
_AT, _COLUMN, _COUNT = "pool/at", "pool/column", "pool/count"


def pooled(name: str) -> str:
    """Return the name of the input with all rows of a feature."""
    return f"pool/{name}"


def kept(name: str) -> str:
    """Return the name of the output that is bound to the same memory."""
    return f"kept/{name}"


def with_slot_rows(
    model: ModelProto,
    read: Sequence[TensorSpec],
    made: Sequence[TensorSpec],
    rows: int,
    batch: int,
    ranked: int | None = None,
) -> ModelProto:
    """Return the stage's graph for one batch size, on rows.

    Args:
        model: Graph of the stage, with its head or without.
        read: Features that it reads. Other inputs stay as they are, [batch, ...].
        made: Features that it gives.
        rows: Number of rows of each feature's tensor.
        batch: Number of images.
        ranked: Number of largest probabilities to give, with their classes. `None`: all of them.
    """
    features = {spec.name for spec in (*read, *made)}
    stage = _without_nodes(model)
    graph = stage.graph
    others = [value for value in model.graph.input if value.name not in features]
    graph.input.append(helper.make_tensor_value_info(SLOTS, TensorProto.INT64, [batch]))
    graph.input.extend(_of_batch(value, batch) for value in others)
    graph.input.extend(_all_rows(pooled(spec.name), spec, rows) for spec in (*read, *made))
    graph.node.extend(_reading(spec) for spec in read)
    graph.node.extend(model.graph.node)
    _keep(graph, made, rows, batch)
    for value in model.graph.output:
        if value.name not in features:
            _give(graph, value, batch, ranked)
    return stage


def _without_nodes(model: ModelProto) -> ModelProto:
    """Return a copy of a model with its weights, and without nodes, inputs and outputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.graph.Clear()  # also the noted shapes, which are of batches of any size
    copy.graph.name = model.graph.name
    copy.graph.initializer.extend(model.graph.initializer)
    return copy


def _reading(spec: TensorSpec) -> NodeProto:
    """Return the node that reads a feature from the rows of its slots."""
    return helper.make_node("Gather", [pooled(spec.name), SLOTS], [spec.name], axis=0)


def _give(graph: GraphProto, value: ValueInfoProto, batch: int, ranked: int | None) -> None:
    """Give an output of the exit. Of the probabilities perhaps the largest only."""
    if value.name == PROBABILITIES and ranked is not None:
        _rank(graph, batch, ranked)
    else:
        graph.output.append(_of_batch(value, batch))


def _keep(graph: GraphProto, made: Sequence[TensorSpec], rows: int, batch: int) -> None:
    """Write the features to the rows of their slots."""
    if made:
        graph.initializer.append(helper.make_tensor(_COLUMN, TensorProto.INT64, [2], [batch, 1]))
        graph.node.append(helper.make_node("Reshape", [SLOTS, _COLUMN], [_AT]))
    for spec in made:
        name = spec.name
        node = helper.make_node("ScatterND", [pooled(name), _AT, name], [kept(name)])
        graph.node.append(node)
        graph.output.append(_all_rows(kept(name), spec, rows))


def _rank(graph: GraphProto, batch: int, count: int) -> None:
    """Replace all probabilities by the largest and their classes."""
    values, classes = RANKED
    wide = f"pool/{classes}"
    graph.initializer.append(helper.make_tensor(_COUNT, TensorProto.INT64, [1], [count]))
    graph.node.append(helper.make_node("TopK", [PROBABILITIES, _COUNT], [values, wide], axis=1))
    graph.node.append(helper.make_node("Cast", [wide], [classes], to=TensorProto.INT32))
    for name, dtype in ((values, TensorProto.FLOAT), (classes, TensorProto.INT32)):
        graph.output.append(helper.make_tensor_value_info(name, dtype, [batch, count]))


def _of_batch(value: ValueInfoProto, batch: int) -> ValueInfoProto:
    made = ValueInfoProto()
    made.CopyFrom(value)
    made.type.tensor_type.shape.dim[0].dim_value = batch
    return made


def _all_rows(name: str, spec: TensorSpec, rows: int) -> ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(name, dtype, [rows, *spec.shape])
