"""Multiply-adds of a node, by its operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from onnx import NodeProto, helper

from exporter.errors import ExportError

Shape = Sequence[int]
Count = Callable[[NodeProto, Sequence[Shape], Shape], int]  # of a node, its inputs, its output

STANDARD = ("", "ai.onnx")
MICROSOFT = "com.microsoft"


def count_for(node: NodeProto) -> Count | None:
    """Return the function that counts a node, `None` if it has no multiply-adds that count.

    Convolutions and matrix products count. Activations, pooling and normalisation do not.

    Raises:
        ExportError: It has an unknown number of them.
    """
    name = node.op_type
    if node.domain in STANDARD and name not in _UNKNOWN:
        return _STANDARD.get(name)
    if node.domain == MICROSOFT:
        if count := _MICROSOFT.get(name):
            return count
        if name in _FREE or name.startswith("QLinear"):
            return None
    if node.domain == "ai.onnx.ml":
        return None
    raise ExportError(
        f"the operator {f'{node.domain}.{name}'.lstrip('.')} has an unknown number of "
        "multiply-adds; give the file as it was before a runtime optimised it"
    )


def _attributes(node: NodeProto) -> Mapping[str, object]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _convolution(weight: int) -> Count:
    """Return a count for weights [out, in / groups, *kernel], the input of this number."""
    return lambda _, inputs, output: math.prod(output) * math.prod(inputs[weight][1:])


def _transposed_convolution(_: NodeProto, inputs: Sequence[Shape], __: Shape) -> int:
    """Count each pixel times all that it adds to. Weights are [in, out / groups, *kernel]."""
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _product(node: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    transposed = _attributes(node).get("transA", 0)
    return math.prod(output) * inputs[0][-2 if transposed else -1]


def _einsum(node: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count one for each combination of all indices, nothing if no sum is over any of them."""
    equation = helper.get_node_attr_value(node, "equation").decode().replace(" ", "")
    terms, arrow, result = equation.partition("->")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms.split(","), inputs, strict=True):
        before, dots, after = term.partition("...")
        sizes |= zip(before, shape, strict=False)
        sizes |= zip(reversed(after if dots else ""), reversed(shape), strict=False)
    letters = terms.replace(",", "").replace(".", "")
    if not arrow:
        result = "".join(letter for letter in sizes if letters.count(letter) == 1)
    summed = math.prod(size for letter, size in sizes.items() if letter not in result)
    return math.prod(output) * summed if len(inputs) > 1 and set(sizes) - set(result) else 0


def _attention(_: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count the products with keys and with values, which have their tokens next to last."""
    past = inputs[4][-2] if len(inputs) > 4 and inputs[4] else 0
    return (math.prod(inputs[0]) + math.prod(output)) * (inputs[1][-2] + past)


def _multi_head_attention(_: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count the same for keys that can be packed with the queries or the values."""
    key = inputs[1] if len(inputs) > 1 else []
    tokens = {3: 1, 4: 2, 5: 1}.get(len(key))
    return 2 * math.prod(output) * (key[tokens] if tokens else output[1])


def _projected_attention(_: NodeProto, inputs: Sequence[Shape], output: Shape) -> int:
    """Count the projection to queries, keys and values, weights [in, 3 out], and attention."""
    image, weight = inputs[:2]
    return math.prod(image) * weight[1] + 2 * math.prod(output) * image[1]


def _recurrent(_: NodeProto, inputs: Sequence[Shape], __: Shape) -> int:
    steps, batch = inputs[0][:2]
    return steps * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))


_STANDARD: dict[str, Count] = {
    **dict.fromkeys(("Conv", "ConvInteger", "DeformConv"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"), _product),
    "Einsum": _einsum,
    "Attention": _attention,
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
}
_UNKNOWN = ("CausalConvWithState", "LinearAttention")
_MICROSOFT: dict[str, Count] = {
    **dict.fromkeys(("FusedConv", "NhwcConv", "NhwcFusedConv"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTransposeWithDynamicPads": _transposed_convolution,
    **dict.fromkeys(
        (
            "DynamicQuantizeMatMul",
            "FusedGemm",
            "FusedMatMul",
            "GemmFastGelu",
            "MatMulInteger16",
            "MatMulIntegerToFloat",
            "MatMulNBits",
            "QGemm",
        ),
        _product,
    ),
    "MultiHeadAttention": _multi_head_attention,
    **dict.fromkeys(("Attention", "QAttention"), _projected_attention),
}
_FREE = (
    "BiasAdd",
    "BiasGelu",
    "BiasSoftmax",
    "BiasSplitGelu",
    "DequantizeLinear",
    "FastGelu",
    "Gelu",
    "GridSample",
    "GroupNorm",
    "NhwcMaxPool",
    "Pad",
    "QuantizeLinear",
    "QuickGelu",
    "SimplifiedLayerNormalization",
    "SkipGroupNorm",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Trilu",
)
