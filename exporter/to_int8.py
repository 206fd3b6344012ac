"""A graph in 8-bit integers, for processors that multiply them faster (VNNI and its like).

Static: the range of every activation is fixed beforehand, on images. Activations are unsigned,
weights signed and scaled for each channel, which is the combination that has fast kernels;
`quantize` and `dequantize` nodes stand around what is computed so (QDQ), and a runtime
without such kernels computes the same in floats.
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

# What lies between convolutions is quantised as well, or it would cost a turn there and back.
OPERATORS = ("AveragePool", "Concat", "Conv", "Gemm", "MatMul", "Relu")
BATCH = 32


class _Batches(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
    """Images [N, H, W, 3], a batch at a time."""

    def __init__(self, name: str, images: NDArray[np.uint8]) -> None:
        self._name = name
        self._batches: Sequence[NDArray[np.uint8]] = [
            images[start : start + BATCH] for start in range(0, len(images), BATCH)
        ]
        self._next = 0

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch by the name of the input; None after the last."""
        if self._next == len(self._batches):
            return None
        self._next += 1
        return {self._name: self._batches[self._next - 1]}


def quantized(model: ModelProto, images: NDArray[np.uint8]) -> ModelProto:
    """The same graph with its convolutions and matrix products in 8-bit integers.

    Args:
        model: takes one tensor of images.
        images: uint8 [N, H, W, 3], to find the ranges of activations by; not those that
            the result will be judged on.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]  # the quantiser infers shapes itself, and is at odds with these
    (image,) = model.graph.input
    with TemporaryDirectory(prefix="offramp-") as folder:
        given, before, after = (Path(folder) / name for name in ("given", "before", "after"))
        onnx.save(bare, given)
        # what it could optimise is the exporter's work, and done; shapes are inferred
        quant_pre_process(given, before, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            before,
            after,
            _Batches(image.name, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return onnx.load(after)
