"""Small ONNX classifiers of coloured pictures, and such pictures. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from exporter.stages.runner import session_options

LABELS = ("blue", "green", "red")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
KINDS = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
Array = NDArray[Any]


@dataclass(frozen=True)
class Classifier:
    """The properties of a classifier. The larger `noise`, the more it is wrong."""

    size: int = 24
    dynamic_size: bool = False
    batch: int | str = "n"
    layout: str = "nchw"
    dtype: str = "float32"
    softmax: bool = False
    opset: int = 17
    noise: float = 0.02
    labels: tuple[str, ...] = LABELS
    stated: tuple[str, str] | None = None
    flatten: str = "Flatten"

    def model(self) -> onnx.ModelProto:
        """Return the network: normalisation of pixels, a convolution, and the mean of colours."""
        nodes, weights = _Nodes(), self._weights()
        side: Any = ["h", "w"] if self.dynamic_size else [self.size] * 2
        shape = [self.batch, 3, *side] if self.layout == "nchw" else [self.batch, *side, 3]
        x = self._image(nodes)
        x = nodes.op("Conv", [x, "kernel"], pads=[1] * 4, strides=[2, 2])
        x = nodes.op("GlobalAveragePool", [x])
        if self.flatten == "Reshape":
            weights["flat"] = np.array([self.batch if isinstance(self.batch, int) else -1, 8])
            x = nodes.op("Reshape", [x, "flat"], allowzero=1)  # as torch writes it
        else:
            x = nodes.op("Flatten", [x], axis=1)
        x = nodes.op("MatMul", [x, "matrix"])
        if self.softmax:
            x = nodes.op("Softmax", [x], axis=1)
        if self.dtype == "float16":
            x = nodes.op("Cast", [x], to=TensorProto.FLOAT16)
        nodes.nodes[-1].output[0] = "answer"
        kind = KINDS["float16" if self.dtype == "float16" else "float32"]
        graph = helper.make_graph(
            nodes.nodes,
            "classifier",
            [helper.make_tensor_value_info("photo", KINDS[self.dtype], shape)],
            [helper.make_tensor_value_info("answer", kind, [self.batch, len(self.labels)])],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if self.stated:
            helper.set_model_props(model, dict([self.stated]))
        return model

    def _image(self, nodes: _Nodes) -> str:
        """Add the nodes from the photo to the normal image, and return its name."""
        x = "photo"
        if self.layout == "nhwc":
            x = nodes.op("Transpose", [x], perm=[0, 3, 1, 2])
        if self.dtype != "float32":
            x = nodes.op("Cast", [x], to=TensorProto.FLOAT)
        if self.dtype == "uint8":
            x = nodes.op("Div", [nodes.op("Sub", [x, "mean"]), "std"])
        return x

    def _weights(self) -> dict[str, Array]:
        rng = np.random.default_rng(self.size)
        kernel = rng.normal(0, self.noise, (8, 3, 3, 3))
        kernel[:3, :, 1, 1] += np.eye(3)
        matrix = rng.normal(0, self.noise, (8, len(self.labels)))
        for k, label in enumerate(self.labels):
            if label in LABELS:
                matrix[2 - LABELS.index(label), k] += 2
        return {
            "mean": 255 * np.array(MEAN, np.float32).reshape(3, 1, 1),
            "std": 255 * np.array(STD, np.float32).reshape(3, 1, 1),
            "kernel": kernel.astype(np.float32),
            "matrix": matrix.astype(np.float32),
        }

    def write(self, path: Path) -> Path:
        """Write the file."""
        onnx.save(self.model(), path)
        return path

    def probabilities(self, pixels: NDArray[np.uint8]) -> Array:
        """Return what ONNX Runtime gives for pixels [N, size, size, 3] of its size."""
        fed: Array = pixels
        if self.dtype != "uint8":
            fed = ((pixels / 255 - MEAN) / STD).astype(self.dtype)
        if self.layout == "nchw":
            fed = np.ascontiguousarray(fed.transpose(0, 3, 1, 2))
        graph = replace(self, batch="n").model().SerializeToString()
        session = ort.InferenceSession(graph, session_options())
        (found,) = session.run(None, {"photo": fed})
        if self.softmax:
            return np.asarray(found)
        raised = np.exp(found - found.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


class _Nodes:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def pictures(count: int, size: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return coloured noise [count, size, size, 3], and the number of each picture's label."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    light = rng.uniform(90, 150, (count, 1, 1, 1))
    tint = np.eye(3)[2 - targets].reshape(-1, 1, 1, 3) * rng.uniform(0, 60, (count, 1, 1, 1))
    noise = rng.uniform(-60, 60, (count, size, size, 3))
    return (light + tint + noise).clip(0, 255).astype(np.uint8), targets


def write_pictures(folder: Path, count: int = 60, size: int = 24) -> Path:
    """Write a folder of classes, with pictures that need no resizing at this size."""
    pixels, targets = pictures(count, size)
    for k, (image, target) in enumerate(zip(pixels, targets.tolist(), strict=True)):
        path = folder / LABELS[target] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder
