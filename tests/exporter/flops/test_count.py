from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.flops import count_flops

INT = TensorProto.INT64


def image() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 15, 15])


def padded_convolution(before: list[onnx.NodeProto], pads: int = 0) -> onnx.ModelProto:
    """Return a convolution of 3x3 with stride 2, after the nodes that pad its image."""
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "weight")
    name = before[-1].output[0] if before else "image"
    node = helper.make_node("Conv", [name, "weight"], ["y"], strides=[2, 2], pads=[pads] * 4)
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", None, None, None])
    graph = helper.make_graph([*before, node], "padded", [image()], [answer], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def constant(name: str, values: list[int]) -> onnx.NodeProto:
    value = helper.make_tensor(name, INT, [len(values)], values)
    return helper.make_node("Constant", [], [name], value=value)


def computed_pads() -> list[onnx.NodeProto]:
    """Return the nodes that torch's older exporter writes for `torch.nn.functional.pad`."""
    node = helper.make_node
    return [
        constant("given", [1, 1, 1, 1]),
        constant("missing", [4]),
        node(
            "ConstantOfShape", ["missing"], ["rest"], value=helper.make_tensor("z", INT, [1], [0])
        ),
        node("Concat", ["given", "rest"], ["all"], axis=0),
        constant("rows", [-1, 2]),
        node("Reshape", ["all", "rows"], ["pairs"]),
        *(
            constant(*each)
            for each in (("a", [-1]), ("b", [-(2**63) + 1]), ("c", [0]), ("d", [-1]))
        ),
        node("Slice", ["pairs", "a", "b", "c", "d"], ["reversed"]),
        node("Transpose", ["reversed"], ["columns"], perm=[1, 0]),
        constant("flat", [-1]),
        node("Reshape", ["columns", "flat"], ["pads"]),
        node("Pad", ["image", "pads"], ["padded"]),
    ]


def pads_of_the_image() -> list[onnx.NodeProto]:
    """Return nodes whose pads depend on the size of the image."""
    node = helper.make_node
    return [
        node("Shape", ["image"], ["shape"]),
        constant("fifteen", [15]),
        node("Div", ["shape", "fifteen"], ["pixel"]),  # [0, 0, 1, 1] for one image
        node("Concat", ["pixel", "pixel"], ["pads"], axis=0),
        node("Pad", ["image", "pads"], ["padded"]),
    ]


@pytest.mark.parametrize("pads", [computed_pads, pads_of_the_image])
def test_flops_after_computed_pads_equal_those_of_a_convolution_with_pads(
    pads: Callable[[], list[onnx.NodeProto]],
) -> None:
    expected = count_flops(padded_convolution([], pads=1))
    assert expected == 4 * 8 * 8 * 27
    assert count_flops(padded_convolution(pads())) == expected


def test_values_of_unknown_rank_are_found_by_a_run() -> None:
    node = helper.make_node
    all_axes = helper.make_tensor("t", TensorProto.BOOL, [4], [True] * 4)
    before = [
        node("Shape", ["image"], ["shape"]),
        node("Constant", [], ["all"], value=all_axes),
        node("Compress", ["shape", "all"], ["same"]),
        node("Reshape", ["image", "same"], ["again"]),
    ]
    assert count_flops(padded_convolution(before)) == count_flops(padded_convolution([]))


def test_a_graph_that_only_onnx_runtime_understands() -> None:
    """It writes LayerNormalization into graphs of opsets that do not have it."""
    model = padded_convolution([helper.make_node("LayerNormalization", ["image", "s"], ["n"])])
    model.opset_import[0].version = 13
    model.graph.initializer.append(numpy_helper.from_array(np.ones(15, np.float32), "s"))
    assert count_flops(model) == count_flops(padded_convolution([]))
