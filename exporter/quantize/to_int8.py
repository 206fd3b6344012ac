"""Convert a graph to 8-bit integers, for processors with fast integer products such as VNNI.

The quantisation is static: images fix the range of every activation beforehand. Activations are
unsigned. Weights are signed, with one scale for each channel. Fast kernels exist for this
combination. QuantizeLinear and DequantizeLinear nodes (QDQ) surround the integer computation. A
runtime without such kernels computes the same in floats.

On x86 processors without VNNI these kernels add two products in 16 bits, and larger sums saturate
(VPMADDUBSW). So weights have 7 bits, from -64 to 64: 2 x 255 x 64 fits, and all processors compute
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from offramp.images.reduction import REDUCTION

# Operators between convolutions are included, to avoid conversions to floats and back.
OPERATORS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "Relu",
)
BATCH = 32


class _Batches(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
    """Batches of images uint8 [N, H, W, 3]."""

    def __init__(self, name: str, images: NDArray[np.uint8]) -> None:
        self._name = name
        self._batches: Sequence[NDArray[np.uint8]] = [
            images[start : start + BATCH] for start in range(0, len(images), BATCH)
        ]
        self._next = 0

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch by the name of the input, or `None` after the last."""
        if self._next == len(self._batches):
            return None
        self._next += 1
        return {self._name: self._batches[self._next - 1]}


def _reduction_nodes(model: ModelProto) -> list[str]:
    """Return the names of the nodes that reduce the image. It stays in floats up to its size."""
    found: dict[str, str] = {}  # name of the node by output
    for node in model.graph.node:
        product = any(name.endswith(REDUCTION) for name in node.input)
        if product or (node.op_type == "Concat" and found.keys() >= set(node.input)):
            found[node.output[0]] = node.name
    return list(found.values())


def convert_to_int8(model: ModelProto, images: NDArray[np.uint8]) -> ModelProto:
    """Return the same graph with convolutions and matrix products in 8-bit integers.

    Args:
        model: A graph with one input, the images.
        images: Images uint8 [N, H, W, 3] that fix the ranges of activations. They must differ
            from the images that the result is measured on.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]  # the quantiser infers shapes itself and rejects these
    (image,) = model.graph.input
    with TemporaryDirectory(prefix="offramp-") as folder:
        source, before, after = (Path(folder) / name for name in ("source", "before", "after"))
        onnx.save(bare, source)
        # the exporter has optimised the graph already, so only shapes are inferred
        quant_pre_process(source, before, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            before,
            after,
            _Batches(image.name, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=_reduction_nodes(model),
        )
        return onnx.load(after)
