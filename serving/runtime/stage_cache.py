"""Stages that several loaded models use, and graphs that take the same time.

Bundles are certified, tuned and trained anew all the time. A version with the same graphs as a
loaded one uses its sessions. A version with other weights in the same graphs takes the same time
as a loaded one, and is not measured again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from weakref import WeakValueDictionary

from onnx import ModelProto, TensorProto

from offramp.bundle.manifest import Manifest
from serving.runtime.stage import Stages
from serving.settings import Layout

# Operators that take the same time whatever the values of their weights are. Others, such as
# Reshape and Resize, read sizes from them. So does arithmetic on sizes, which are in int64.
_ARITHMETIC = frozenset(
    {
        "Add", "BatchNormalization", "Clip", "Conv", "ConvInteger", "DequantizeLinear", "Div",
        "Gemm", "MatMul", "MatMulInteger", "Mul", "PRelu", "QLinearConv", "QLinearMatMul",
        "QuantizeLinear", "Sub",
    }
)  # fmt: skip


class StageCache:
    """The stages of all runtimes of a process, by what they were made of, and by structure.

    The references are weak: the sessions end with the last runtime that uses them.
    """

    def __init__(self) -> None:
        self._stages: WeakValueDictionary[Hashable, Stages] = WeakValueDictionary()

    def find(self, key: Hashable) -> Stages | None:
        """Return the stages of a key. `None`: no runtime has them."""
        return self._stages.get(key)

    def keep(self, key: Hashable, stages: Stages) -> None:
        """Let other runtimes find these stages."""
        self._stages[key] = stages


def key_of(manifest: Manifest, layout: Layout) -> Hashable:
    """Return all that the stages of a bundle depend on: their bytes, and the checks on them."""
    stages = tuple((stage.sha256, stage.inputs, stage.features) for stage in manifest.stages)
    scored = manifest.reject is not None and manifest.reject.in_graphs
    return layout, stages, len(manifest.labels), scored


def structure_of(models: Iterable[ModelProto]) -> str:
    """Return a hash of graphs without the values of their weights, in hexadecimal.

    Graphs with the same hash take the same time.
    """
    digest = hashlib.sha256()
    for model in models:
        readers = defaultdict(set)
        for node in model.graph.node:
            _add(digest.update, node.SerializeToString(deterministic=True))
            for name in node.input:
                readers[name].add(node.op_type)
        for tensor in model.graph.initializer:
            _add(digest.update, _structure_of_weight(tensor, readers[tensor.name]))
        for each in (*model.graph.input, *model.graph.output, *model.opset_import):
            _add(digest.update, each.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _structure_of_weight(tensor: TensorProto, readers: set[str]) -> bytes:
    if tensor.data_type == TensorProto.INT64 or not readers <= _ARITHMETIC:
        whole: bytes = tensor.SerializeToString(deterministic=True)
        return whole
    return repr((tensor.name, tensor.data_type, list(tensor.dims))).encode()


def _add(update: Callable[[bytes], None], part: bytes) -> None:
    update(len(part).to_bytes(8))
    update(part)
