"""Add a score to the exits of stage graphs, and remove it.

This works on the graphs, not on the network. A bundle without scores therefore keeps its bytes, and
a bundle can get a score without its checkpoint, in any precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporter.errors import ExportError
from exporter.stages.graph import CONFIDENCE, PROBABILITIES, StageGraph
from offramp.bundle.graphs import EXIT_OUTPUTS, SCORE, without_head

LogitScore = Literal["energy", "max_logit"]
# Operator that computes each score from logits divided by the temperature, [N, classes].
SCORES: Mapping[LogitScore, str] = {"energy": "ReduceLogSumExp", "max_logit": "ReduceMax"}


def with_score(graph: StageGraph, kind: LogitScore, name: str = SCORE) -> StageGraph:
    """Return a stage with one more output of its exit: a score, float32 [N].

    Args:
        graph: The stage.
        kind: Function of the logits that its softmax reads, which the temperature divides.
        name: Name of the output.

    Raises:
        ExportError: The probabilities are not the output of a softmax.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    makers = [node for node in model.graph.node if PROBABILITIES in node.output]
    if [node.op_type for node in makers] != ["Softmax"]:
        raise ExportError("--reject: the graphs have no softmax to read logits from")
    axes = f"{name}/axes"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axes))
    inputs = [makers[0].input[0], axes]
    model.graph.node.append(helper.make_node(SCORES[kind], inputs, [name], name=name, keepdims=0))
    (like,) = (value for value in model.graph.output if value.name == CONFIDENCE)
    model.graph.output.append(like)
    model.graph.output[-1].name = name
    onnx.checker.check_model(model, full_check=True)
    return StageGraph(model)


def without_score(graph: StageGraph) -> StageGraph:
    """Return the stage without the score of its exit."""
    if all(value.name != SCORE for value in graph.model.graph.output):
        return graph
    features = [spec.name for spec in graph.features]
    return StageGraph(without_head(graph.model, [*features, *EXIT_OUTPUTS]))
