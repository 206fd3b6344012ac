"""Detect graphs in 8-bit integers that this processor computes wrongly.

On x86 processors without VNNI, ONNX Runtime adds two products of 8-bit integers in 16 bits, and
larger sums saturate (VPMADDUBSW). Weights of 7 bits, which `offramp quantize` writes, never reach
such sums. Other bundles can have weights of 8 bits. The processor is tried with a small graph,
because its flags do not say which kernels ONNX Runtime has for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, numpy_helper

from serving.runtime.session import CPU, session_options

LARGEST = ((1 << 15) - 1) // (2 * 255)  # weight with which two products fit in 16 bits
_CHANNELS = 64  # enough for the vector registers of all kernels
_INTEGER_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})


def has_wide_weights(models: Iterable[ModelProto]) -> bool:
    """Return whether any weight of a product in 8-bit integers has more than 7 bits."""
    return any(_has_wide_weights(model) for model in models)


def _has_wide_weights(model: ModelProto) -> bool:
    sources = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    read = {
        sources.get(name)
        for node in model.graph.node
        if node.op_type in _INTEGER_PRODUCTS
        for name in node.input[1:2]
    }
    weights = (
        numpy_helper.to_array(each).astype(np.int32)
        for each in model.graph.initializer
        if each.data_type == TensorProto.INT8 and each.name in read
    )
    return any(int(np.abs(each).max(initial=0)) > LARGEST for each in weights)


@cache
def saturates() -> bool:
    """Return whether products with 8-bit weights are wrong on this processor."""
    image = np.full((1, _CHANNELS, 4, 4), 255, np.uint8)
    weights = np.full((_CHANNELS, _CHANNELS, 1, 1), 127, np.int8)
    session = ort.InferenceSession(
        _convolution(weights).SerializeToString(), session_options(), providers=[CPU]
    )
    (found,) = session.run(None, {"x": image})
    # the scale of the output maps the right sum to 200
    return bool(np.abs(found.astype(int) - 200).max() > 1)


def _convolution(weights: np.ndarray[tuple[int, ...], np.dtype[np.int8]]) -> ModelProto:
    """Return a graph with one convolution of 8-bit integers."""
    scale = np.float32(_CHANNELS * 255 * 127 / 200)
    numbers = {
        "one": np.float32(1), "zero": np.uint8(0), "w": weights, "w_zero": np.int8(0),
        "scale": scale,
    }  # fmt: skip
    names = ["x", "one", "zero", "w", "one", "w_zero", "scale", "zero"]
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", names, ["y"])],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, _CHANNELS, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, _CHANNELS, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
