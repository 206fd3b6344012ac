from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from exporter.errors import VerificationError
from exporter.network.verify import verify_blocks, verify_chain
from exporter.stages.graph import StageGraph, set_temperature
from exporter.stages.runner import Chain
from tests.exporter.exported import blocks, checkpoint, export, held_out, modules
from tests.training.samples import TINY
from training.networks.predict import predict


def damaged(k: int) -> list[StageGraph]:
    """Return the graphs with one weight of stage k (from 0) changed."""
    graphs = list(blocks())
    model = onnx.ModelProto()
    model.CopyFrom(graphs[k].model)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values[0] += 0.5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    graphs[k] = replace(graphs[k], model=model)
    return graphs


@pytest.mark.parametrize("variant", ["joint", "released", "paper", "unreferenced"])
def test_the_chain_gives_the_outputs_of_the_network_and_has_no_node_of_surgery(
    variant: str,
) -> None:
    smaller = variant != TINY.variant  # the others' layers are the same
    exported = export(variant, smaller)
    if variant != "unreferenced":
        ops = {node.op_type for graph in exported.graphs for node in graph.model.graph.node}
        assert not ops & {"Split", "Slice", "SplitToSequence"}
    output = Chain(exported.graphs).run(held_out().pixels, batch_size=7)
    logits = predict(checkpoint(variant, smaller).network(), held_out().pixels)
    temperatures = torch.tensor(exported.temperatures)[:, None, None]
    expected = torch.softmax(logits / temperatures, dim=2).numpy()
    assert abs(output.probabilities - expected).max() < 1e-5
    assert abs(output.confidence - expected.max(2)).max() < 1e-5


@pytest.mark.parametrize("k", [0, 2])
def test_the_error_for_a_changed_weight_names_its_stage(k: int) -> None:
    graphs = damaged(k)
    with pytest.raises(VerificationError, match=rf"stage {k + 1}, output .* differs from torch by"):
        verify_blocks(modules(), graphs, held_out().pixels)
    with pytest.raises(VerificationError, match=rf"exit {k + 1} in the chain, .* differs from"):
        verify_chain(checkpoint().network(), export().temperatures, graphs, held_out().pixels)


def test_modules_that_differ_from_the_network_are_an_error() -> None:
    """For example, surgery changes values and the export does not contain it."""
    network = checkpoint("unreferenced").network()
    with pytest.raises(VerificationError, match="exit 1 in the chain, output probabilities"):
        verify_chain(network, export().temperatures, export().graphs, held_out().pixels)


def test_a_changed_temperature_is_an_error() -> None:
    graphs = [replace(g, model=onnx.ModelProto.FromString(g.serialized())) for g in blocks()]
    set_temperature(graphs[1].model, 10.0)
    with pytest.raises(VerificationError, match="stage 2, output probabilities"):
        verify_blocks(modules(), graphs, held_out().pixels)


def test_graphs_cut_by_need_give_bit_for_bit_the_outputs_of_the_blocks() -> None:
    cut, whole = (Chain(graphs).run(held_out().pixels) for graphs in (export().graphs, blocks()))
    np.testing.assert_array_equal(cut.probabilities, whole.probabilities)
    np.testing.assert_array_equal(cut.confidence, whole.confidence)
