import numpy as np
import onnx

from exporter.quantize.to_fp16 import convert_to_fp16
from exporter.stages.graph import set_temperature, stages_by_need
from exporter.stages.runner import Chain
from offramp.bundle.graphs import join
from tests.exporter.exported import export, held_out


def converted() -> onnx.ModelProto:
    return convert_to_fp16(join([graph.model for graph in export().graphs]))


def test_products_have_16_bit_inputs_and_exits_compute_in_32_bits() -> None:
    whole = converted()
    typed = onnx.shape_inference.infer_shapes(whole, strict_mode=True).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*typed.value_info, *typed.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in typed.initializer}
    for node in typed.node:
        if node.op_type in ("Conv", "Gemm"):
            assert {kinds[name] for name in node.input} == {onnx.TensorProto.FLOAT16}
        if node.op_type in ("Softmax", "ReduceMax"):
            assert kinds[node.input[0]] == onnx.TensorProto.FLOAT
    (image,) = whole.graph.input
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_confidences_are_finer_than_16_bit_floats() -> None:
    graphs = stages_by_need(onnx.shape_inference.infer_shapes(converted()), len(export().graphs))
    after, before = (Chain(g).run(held_out().pixels) for g in (graphs, export().graphs))
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=2e-3)
    rounded = after.confidence.astype(np.float16).astype(np.float32)
    assert (rounded != after.confidence).mean() > 0.9


def test_temperatures_of_fp16_graphs_can_be_set() -> None:
    for graph in stages_by_need(
        onnx.shape_inference.infer_shapes(converted()), len(export().graphs)
    ):
        before = graph.serialized()
        set_temperature(graph.model, 7.0)
        assert graph.serialized() != before
