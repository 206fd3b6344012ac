from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporter.errors import ExportError
from exporter.network.verify import verify_scores
from exporter.quantize.to_fp16 import convert_to_fp16
from exporter.reject.add_scores import TORCH_SCORES
from exporter.reject.graphs import SCORES, LogitScore, with_score, without_score
from exporter.stages.graph import StageGraph, stages_by_need
from exporter.stages.runner import Chain
from offramp.bundle.graphs import SCORED_OUTPUTS, join
from tests.exporter.exported import checkpoint, export, held_out


@pytest.mark.parametrize("kind", ["energy", "max_logit"])
def test_the_scores_are_those_of_torch(kind: LogitScore) -> None:
    graphs = [with_score(graph, kind) for graph in export().graphs]
    pixels, network = held_out().pixels, checkpoint().network()
    verify_scores(network, export().temperatures, graphs, pixels, TORCH_SCORES[kind])
    for scored, plain in zip(graphs, export().graphs, strict=True):
        assert scored.features == plain.features
        assert (scored.flops, scored.head_flops) == (plain.flops, plain.head_flops)


def test_the_scores_of_one_exit_differ_by_the_log_of_the_largest_probability() -> None:
    """max(z) - log(sum(exp(z))) is the log of the largest probability."""
    graphs = export().graphs
    for kind in SCORES:
        graphs = [with_score(graph, kind, f"a/{kind}") for graph in graphs]
    names = ["a/max_logit", "a/energy", "probabilities"]
    largest, energy, probabilities = Chain(graphs).outputs(held_out().pixels, names)
    np.testing.assert_allclose(largest - energy, np.log(probabilities.max(2)), atol=1e-5)


def test_without_its_score_a_stage_computes_as_before() -> None:
    for plain in export().graphs:
        again = without_score(with_score(plain, "energy"))
        assert [value.name for value in again.model.graph.output] == [
            value.name for value in plain.model.graph.output
        ]
        assert len(again.model.graph.node) == len(plain.model.graph.node)
        assert without_score(plain) is plain


def test_a_bundle_in_16_bit_floats_can_get_a_score() -> None:
    whole = convert_to_fp16(join([graph.model for graph in export().graphs]))
    halves = stages_by_need(onnx.shape_inference.infer_shapes(whole), len(export().graphs))
    (half,) = Chain([with_score(g, "energy") for g in halves]).outputs(held_out().pixels, ["score"])
    full = [with_score(graph, "energy") for graph in export().graphs]
    (exact,) = Chain(full).outputs(held_out().pixels, ["score"])
    np.testing.assert_allclose(half, exact, rtol=0.02, atol=0.02)


def test_join_keeps_the_scores_only_if_they_are_named() -> None:
    models = [with_score(graph, "energy").model for graph in export().graphs]
    names = {value.name for value in join(models, SCORED_OUTPUTS).graph.output}
    assert {"score_1", "score_2", "score_3"} <= names
    cut = stages_by_need(join(models), len(models))
    assert all("score" not in stage.serialized().decode("latin-1") for stage in cut)


def test_a_graph_without_a_softmax_gets_no_score() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(export().graphs[0].model)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "LogSoftmax"
    with pytest.raises(ExportError, match="no softmax"):
        with_score(StageGraph(model), "energy")
