from itertools import accumulate

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.stages.graph import TEMPERATURE, parameter_count, set_temperature
from tests.exporter.exported import blocks, checkpoint, export
from training.networks.flops import flop_costs, flops_to_exits


def test_flops_equal_those_of_torchs_counter() -> None:
    totals = tuple(accumulate(block.flops for block in blocks()))
    assert totals == flops_to_exits(checkpoint().network(), 32)


def test_cut_by_need_lowers_the_flops_of_all_exits_but_the_last_and_changes_no_head() -> None:
    costs = flop_costs(checkpoint().network(), 32)
    by_need = list(accumulate(graph.flops for graph in export().graphs))
    assert by_need[-1] == costs.cumulative[-1]
    assert all(a < b for a, b in zip(by_need[:-1], costs.cumulative[:-1], strict=True))
    assert [graph.head_flops for graph in export().graphs[:-1]] == list(costs.heads[:-1])
    assert export().graphs[-1].head_flops == export().graphs[-1].flops


def test_features_are_numbered_and_are_inputs_of_later_stages() -> None:
    known = {"image"}
    for k, graph in enumerate(export().graphs, 1):
        assert {spec.name for spec in graph.inputs} <= known
        names = [spec.name for spec in graph.features]
        assert names == [f"features_{k}_{i}" for i in range(1, len(names) + 1)]
        known |= set(names)
    assert known == {spec.name for graph in export().graphs for spec in graph.inputs}


def test_parameters_are_those_of_the_network_with_batch_norm_folded_in() -> None:
    network = checkpoint().network()
    stage, head = network.stages[0], network.heads[0]
    weights = sum(p.numel() for m in (stage, head) for p in m.parameters() if p.ndim > 1)
    channels = sum(p.numel() for m in (stage, head) for p in m.parameters() if p.ndim == 1)
    norms = 2 * channels - 10  # gain and bias for each channel but the classifier's
    assert weights < parameter_count(blocks()[0].model) <= weights + norms + 20


def test_weights_without_a_sign_are_parameters() -> None:
    weight = numpy_helper.from_array(np.zeros((4, 3), np.uint8), "weight")
    graph = helper.make_graph([], "quantised", [], [], [weight])
    assert parameter_count(helper.make_model(graph)) == 12


def test_batch_is_the_only_dynamic_axis_and_no_metadata_describes_the_machine() -> None:
    for graph in export().graphs:
        for value in (*graph.model.graph.input, *graph.model.graph.output):
            batch, *rest = value.type.tensor_type.shape.dim
            assert batch.dim_param
            assert all(d.dim_value for d in rest)
        for trace in (b".py", b"site-packages", b"torch.nn"):
            assert trace not in graph.serialized()
        assert not [n for n in graph.model.graph.node if n.op_type in ("Dropout", "Identity")]


def test_set_temperature_changes_the_divisor_of_the_logits() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(export().graphs[0].model)
    set_temperature(model, 3.5)
    (found,) = (t for t in model.graph.initializer if t.name.endswith(TEMPERATURE))
    assert numpy_helper.to_array(found) == pytest.approx(3.5)
    (user,) = (n for n in model.graph.node if found.name in n.input)
    assert user.op_type == "Div"


@pytest.mark.parametrize("name", ["temperature", "1/temperature", "2/2/stages.0.temperature"])
def test_a_weight_of_the_network_that_is_named_temperature_stays(name: str) -> None:
    """Networks of timm with attention over channels, such as EdgeNeXt, have such weights."""
    own = numpy_helper.from_array(
        np.ones((4, 1, 1), np.float32), "2/stages.0.stage.xca.temperature"
    )
    ours = numpy_helper.from_array(np.array(1, np.float32), name)
    model = helper.make_model(helper.make_graph([], "stage", [], [], [ours, own]))
    set_temperature(model, 3.5)
    assert numpy_helper.to_array(model.graph.initializer[0]) == 3.5
    assert model.graph.initializer[1] == own


def test_pixels_are_transposed_to_channels_first_and_normalised() -> None:
    kinds = [node.op_type for node in export().graphs[0].model.graph.node]
    assert kinds[:5] == ["Transpose", "Cast", "Div", "Sub", "Div"]
