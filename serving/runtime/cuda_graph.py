"""A stage's graph made to read and write rows of tensors that stay on the device. Pure.

    slots [batch] ──► Gather ◄── pool/x [rows, ...]            what the stage reads
    stage's feature y ──► ScatterND ◄── pool/y [rows, ...]     what it gives
                              └──► kept/y, which is bound to the memory of pool/y

ScatterND copies the tensor that it changes unless its output is that very memory. So bound, it
writes the batch's rows and touches no other: every request's features go to the row of its slot,
whoever else is in the batch, and nothing moves when others leave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from offramp.bundle.graphs import EXIT_OUTPUTS
from offramp.bundle.manifest import TensorSpec

SLOTS = "slots"
PROBABILITIES, CONFIDENCE = EXIT_OUTPUTS
RANKED = ("ranked_probabilities", "ranked_classes")
_AT, _COLUMN, _COUNT = "pool/at", "pool/column", "pool/count"


def pooled(name: str) -> str:
    """The input that brings all rows of a feature."""
    return f"pool/{name}"


def kept(name: str) -> str:
    """The output that is to be bound to the same memory."""
    return f"kept/{name}"


def with_slot_rows(
    model: ModelProto,
    read: Sequence[TensorSpec],
    made: Sequence[TensorSpec],
    rows: int,
    batch: int,
    ranked: int | None = None,
) -> ModelProto:
    """The stage for one batch size, on rows.

    Args:
        model: of the stage, with its head or without.
        read: the features that it reads; other inputs come as they are, [batch, ...].
        made: the features that it gives.
        rows: of each feature's tensor.
        batch: images.
        ranked: give only so many of the largest probabilities, and their classes.
    """
    features = {spec.name for spec in (*read, *made)}
    others = [value for value in model.graph.input if value.name not in features]
    exits = [value for value in model.graph.output if value.name not in features]
    stage = ModelProto()
    stage.CopyFrom(model)
    graph = stage.graph
    graph.Clear()  # also of what is noted of shapes: it speaks of batches of any size
    graph.name = model.graph.name
    graph.initializer.extend(model.graph.initializer)
    graph.node.extend(
        helper.make_node("Gather", [pooled(s.name), SLOTS], [s.name], axis=0) for s in read
    )
    graph.node.extend(model.graph.node)
    graph.input.append(helper.make_tensor_value_info(SLOTS, TensorProto.INT64, [batch]))
    graph.input.extend(_of_batch(value, batch) for value in others)
    graph.input.extend(_all_rows(pooled(spec.name), spec, rows) for spec in (*read, *made))
    if made:
        graph.initializer.append(helper.make_tensor(_COLUMN, TensorProto.INT64, [2], [batch, 1]))
        graph.node.append(helper.make_node("Reshape", [SLOTS, _COLUMN], [_AT]))
    for spec in made:
        name = spec.name
        node = helper.make_node("ScatterND", [pooled(name), _AT, name], [kept(name)])
        graph.node.append(node)
        graph.output.append(_all_rows(kept(name), spec, rows))
    for value in exits:
        if value.name == PROBABILITIES and ranked is not None:
            _rank(graph, batch, ranked)
        else:
            graph.output.append(_of_batch(value, batch))
    return stage


def _rank(graph: GraphProto, batch: int, count: int) -> None:
    """Give the largest probabilities and their classes instead of all."""
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
