from typing import Any

import pytest
from onnx import helper

from exporter.errors import ExportError
from exporter.flops.operators import count_for

MICROSOFT = "com.microsoft"
Shape = list[int]
IMAGE, KERNEL, OUTPUT = [1, 6, 8, 8], [4, 3, 3, 3], [1, 4, 8, 8]  # in two groups
CONVOLUTION = 4 * 64 * 27
TOKENS, WIDER = [1, 5, 12], [1, 5, 36]
ATTENDING = 2 * 5 * 5 * 12  # queries times keys, and weights times values


@pytest.mark.parametrize(
    ("name", "domain", "inputs", "output", "attributes", "expected"),
    [
        ("Conv", "", [IMAGE, KERNEL], OUTPUT, {}, CONVOLUTION),
        ("ConvInteger", "", [IMAGE, KERNEL, []], OUTPUT, {}, CONVOLUTION),
        ("QLinearConv", "", [IMAGE, [], [], KERNEL], OUTPUT, {}, CONVOLUTION),
        ("QLinearConv", MICROSOFT, [[1, 8, 8, 6], [], [], KERNEL], [1, 8, 8, 4], {}, CONVOLUTION),
        ("FusedConv", MICROSOFT, [IMAGE, KERNEL, [4]], OUTPUT, {"activation": "Relu"}, CONVOLUTION),
        ("NhwcFusedConv", MICROSOFT, [[1, 8, 8, 6], KERNEL], [1, 8, 8, 4], {}, CONVOLUTION),
        ("ConvTranspose", "", [IMAGE, [6, 4, 2, 2]], [1, 4, 16, 16], {}, 6 * 64 * 16),
        ("Gemm", "", [[7, 2], [7, 3]], [2, 3], {"transA": 1}, 2 * 3 * 7),
        ("MatMul", "", [[1, 4, 5, 6], [6, 3]], [1, 4, 5, 3], {}, 4 * 5 * 3 * 6),
        ("FusedMatMul", MICROSOFT, [[1, 6, 5], [1, 6, 3]], [1, 5, 3], {"transA": 1}, 5 * 3 * 6),
        ("QGemm", MICROSOFT, [[1, 6], [], [], [6, 3]], [1, 3], {}, 18),
        ("MatMulNBits", MICROSOFT, [[1, 6], [3, 1, 3], [3]], [1, 3], {"K": 6, "N": 3}, 18),
        ("Einsum", "", [[2, 3, 4], [4, 5]], [2, 3, 5], {"equation": "bij,jk->bik"}, 120),
        ("Einsum", "", [[2, 3, 4], [4, 5]], [2, 3, 5], {"equation": "...j, jk"}, 120),
        ("Einsum", "", [[2, 3], [3]], [2, 3], {"equation": "ij,j->ij"}, 0),
        ("Attention", "", [TOKENS, TOKENS, TOKENS], TOKENS, {"q_num_heads": 3}, ATTENDING),
        ("MultiHeadAttention", MICROSOFT, [TOKENS] * 3, TOKENS, {"num_heads": 3}, ATTENDING),
        ("MultiHeadAttention", MICROSOFT, [[1, 5, 3, 3, 4]], TOKENS, {"num_heads": 3}, ATTENDING),
        ("Attention", MICROSOFT, [TOKENS, [12, 36]], TOKENS, {}, ATTENDING + 5 * 12 * 36),
        ("LSTM", "", [[5, 1, 6], [1, 16, 6], [1, 16, 4]], [5, 1, 1, 4], {}, 5 * 16 * 10),
    ],
)
def test_the_multiply_adds_of_an_operator(
    name: str,
    domain: str,
    inputs: list[Shape],
    output: Shape,
    attributes: dict[str, Any],
    expected: int,
) -> None:
    names = [f"input_{k}" for k in range(len(inputs))]
    node = helper.make_node(name, names, ["output"], domain=domain, **attributes)
    count = count_for(node)
    assert count is not None
    assert count(node, inputs, output) == expected


@pytest.mark.parametrize(
    ("name", "domain"),
    [("Relu", ""), ("MaxPool", "ai.onnx"), ("BiasGelu", MICROSOFT), ("QLinearAdd", MICROSOFT)],
)
def test_other_operators_do_not_count(name: str, domain: str) -> None:
    assert count_for(helper.make_node(name, ["x"], ["y"], domain=domain)) is None


@pytest.mark.parametrize(("name", "domain"), [("MoE", MICROSOFT), ("Conv", "mine")])
def test_unknown_operators_are_refused(name: str, domain: str) -> None:
    with pytest.raises(ExportError, match=rf"{domain}.{name} has an unknown number of multiply"):
        count_for(helper.make_node(name, ["x"], ["y"], domain=domain))
