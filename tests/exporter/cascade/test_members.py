"""Networks of many kinds as stages: the answers of their files, and their flops."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.cascade.members import Stages, prepare
from exporter.cascade.network_options import Member
from exporter.cascade.networks.network import read_network
from exporter.cascade.networks.original import Kind, Normalisation
from exporter.cascade.networks.stage import ImageForm
from exporter.errors import ExportError, VerificationError
from exporter.stages.graph import parameter_count
from exporter.stages.runner import session_options
from tests.exporter.cascade.classifiers import MEAN, STD, Classifier, pictures

HALVES = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ORDER = [0, 1, 2]


def batches(pixels: NDArray[np.uint8], _: str) -> Iterator[NDArray[np.uint8]]:
    yield from (pixels[:7], pixels[7:])


def stages_of(
    model: onnx.ModelProto,
    tmp_path: Path,
    normalisation: Normalisation | None = HALVES,
    kind: Kind = "logits",
) -> Stages:
    """Return a network as a stage, which is compared with its file."""
    onnx.save(model, tmp_path / "a.onnx")
    member = Member(read_network(tmp_path / "a.onnx"), 24, normalisation, kind)
    part = prepare(member, 1, ORDER, "max_softmax")
    return part.stages(pictures(12, 24)[0], ImageForm(24, "bilinear"), batches)


def flops(model: onnx.ModelProto, tmp_path: Path) -> int:
    return stages_of(model, tmp_path).graphs[0].flops


def insert(model: onnx.ModelProto, at: int, *nodes: onnx.NodeProto) -> None:
    """Insert nodes, the last of which takes the place of the first input of the node there."""
    for node in reversed(nodes):
        model.graph.node.insert(at, node)
    model.graph.node[at + len(nodes)].input[0] = nodes[-1].output[0]


def quantised() -> onnx.ModelProto:
    """Return a network that rounds its image to 8 bits, half of whose pixels are near a half."""
    model = Classifier().model()
    scale, zero = np.float32(2 / 255), np.uint8(128)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in (("s", scale), ("z", zero))
    )
    insert(
        model,
        0,
        helper.make_node("QuantizeLinear", ["photo", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    )
    return model


def test_a_quantised_network_rounds_the_same_pixels_as_its_file(tmp_path: Path) -> None:
    made = stages_of(quantised(), tmp_path)
    assert made.difference < 1e-6
    assert made.precision == "int8"


def test_probabilities_in_8_bits_need_not_sum_to_1(tmp_path: Path) -> None:
    """Converters of 8-bit networks quantise the softmax too."""
    model = Classifier(softmax=True).model()
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n)
        for n, v in (("s", np.float32(1 / 256)), ("z", np.uint8(0)))
    )
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["before", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["answer"]),
        ]
    )
    assert stages_of(model, tmp_path, kind="probabilities").difference < 1e-6


def test_a_network_in_16_bits_can_differ_more(tmp_path: Path) -> None:
    """ONNX Runtime leaves out roundings to 16 bits between two operators in 32 bits."""
    model = Classifier(dtype="float16").model()
    model.graph.initializer.append(numpy_helper.from_array(np.array(300, np.float16), "far"))
    weights = model.graph.node
    weights[-1].output[0] = "half"
    weights.append(helper.make_node("Mul", ["half", "far"], ["answer"]))
    made = stages_of(model, tmp_path, Normalisation(MEAN, STD))
    assert made.precision == "fp16"
    assert made.difference < 1e-2


def test_weights_that_are_constants_are_counted(tmp_path: Path) -> None:
    """Paddle's converter writes weights so."""
    model = Classifier(dtype="float16").model()
    before = stages_of(model, tmp_path).graphs[0].model
    for tensor in model.graph.initializer:
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    after = stages_of(model, tmp_path).graphs[0].model
    assert parameter_count(after) == parameter_count(before) > 200


def test_the_flops_of_fused_operators_count(tmp_path: Path) -> None:
    model = Classifier().model()
    insert(model, 1, helper.make_node("Relu", [model.graph.node[0].output[0]], ["positive"]))
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    fused = onnx.load(tmp_path / "fused.onnx")
    assert "FusedConv" in {node.op_type for node in fused.graph.node}
    assert flops(fused, tmp_path) == flops(model, tmp_path)


def test_a_network_whose_batch_is_dynamic_in_name_only_becomes_a_stage(tmp_path: Path) -> None:
    model = Classifier(batch=1, flatten="Reshape").model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    assert stages_of(model, tmp_path).difference < 1e-6


def test_a_network_whose_answer_depends_on_the_batch_is_refused(tmp_path: Path) -> None:
    model = Classifier().model()
    insert(
        model,
        len(model.graph.node) - 1,
        helper.make_node("ReduceMean", [model.graph.node[-2].output[0]], ["m"], axes=[0]),
        helper.make_node("Sub", [model.graph.node[-2].output[0], "m"], ["rest"]),
    )
    with pytest.raises(VerificationError, match="depends on the other images of the batch"):
        stages_of(model, tmp_path)


def test_a_network_without_products_is_refused(tmp_path: Path) -> None:
    model = Classifier().model()
    del model.graph.node[:]
    model.graph.node.extend(
        [
            helper.make_node("GlobalMaxPool", ["photo"], ["p"]),
            helper.make_node("Flatten", ["p"], ["answer"]),
        ]
    )
    with pytest.raises(ExportError, match="has no convolution and no matrix product"):
        stages_of(model, tmp_path)


def test_operators_with_unknown_flops_are_refused(tmp_path: Path) -> None:
    model = Classifier().model()
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(
        helper.make_node("Inverse", ["square"], ["inverse"], domain="com.microsoft")
    )
    model.graph.initializer.append(numpy_helper.from_array(np.eye(3, dtype=np.float32), "square"))
    model.graph.node.append(helper.make_node("MatMul", ["before", "inverse"], ["answer"]))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ExportError, match=r"a.onnx: .*com.microsoft.Inverse has an unknown number"):
        stages_of(model, tmp_path)


def test_an_image_of_uint8_needs_no_normalisation(tmp_path: Path) -> None:
    model = Classifier(dtype="uint8", layout="nhwc").model()
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert stages_of(model, tmp_path, None).difference < 1e-6
