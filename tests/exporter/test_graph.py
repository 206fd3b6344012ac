import onnx
import pytest
from exported import checkpoint, export
from onnx import numpy_helper

from exporter.graph import TEMPERATURE, count_flops, parameter_count, set_temperature
from training.flops import flops_to_exits


def test_flops_are_those_of_torchs_counter() -> None:
    counted = [count_flops(graph.model) for graph in export().graphs]
    totals = tuple(sum(counted[: k + 1]) for k in range(len(counted)))
    assert totals == flops_to_exits(checkpoint().network(), 32)


def test_parameters_are_the_networks_with_batch_norm_folded_in() -> None:
    network = checkpoint().network()
    stage, head = network.stages[0], network.heads[0]
    weights = sum(p.numel() for m in (stage, head) for p in m.parameters() if p.ndim > 1)
    channels = sum(p.numel() for m in (stage, head) for p in m.parameters() if p.ndim == 1)
    norms = 2 * channels - 10  # gain and bias for each channel but the classifier's
    assert weights < parameter_count(export().graphs[0].model) <= weights + norms + 20


def test_batch_is_the_only_dynamic_axis_and_nothing_tells_of_the_machine() -> None:
    for graph in export().graphs:
        for value in (*graph.model.graph.input, *graph.model.graph.output):
            batch, *rest = value.type.tensor_type.shape.dim
            assert batch.dim_param
            assert all(d.dim_value for d in rest)
        for trace in (b".py", b"site-packages", b"torch.nn"):
            assert trace not in graph.serialized()
        assert not [n for n in graph.model.graph.node if n.op_type in ("Dropout", "Identity")]


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_surgery_leaves_no_node(variant: str) -> None:
    ops = {n.op_type for g in export(variant=variant).graphs for n in g.model.graph.node}
    assert not ops & {"Split", "Slice", "SplitToSequence"}


def test_temperature_is_set_where_the_graph_divides() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(export().graphs[0].model)
    set_temperature(model, 3.5)
    (found,) = (t for t in model.graph.initializer if t.name == TEMPERATURE)
    assert numpy_helper.to_array(found) == pytest.approx(3.5)
    (user,) = (n for n in model.graph.node if TEMPERATURE in n.input)
    assert user.op_type == "Div"
