"""An ONNX file with an image classifier: its input, and the labels that it states."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto, ValueInfoProto, version_converter

from exporter.errors import ExportError
from exporter.stages.graph import OPSET

Dtype = Literal["uint8", "float32", "float16"]
Layout = Literal["nchw", "nhwc"]
LEAST_OPSET = 13  # of the operators that a stage adds
DTYPES: dict[int, Dtype] = {
    TensorProto.UINT8: "uint8",
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
}
LABEL_KEYS = ("labels", "classes", "class_names", "names", "id2label")
_CONTROL_FLOW = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
_OF_A_BATCH = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
_OF_ONE_PROCESSOR = ("com.microsoft.nchwc", "com.ms.internal.nhwc")  # domains of operators


@dataclass(frozen=True, slots=True)
class ImageTensor:
    """The input of a network. `None` is a dynamic axis, which old converters write as -1.

    Attributes:
        name: Its name.
        dtype: uint8 for pixels, or floats.
        layout: Order of its axes.
        batch: Size of a fixed batch.
        size: Height and width, in pixels.
    """

    name: str
    dtype: Dtype
    layout: Layout
    batch: int | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Network:
    """A network as its file gives it.

    Attributes:
        name: Path of the file.
        sha256: Hash of the file.
        original: The graph as in the file, with all weights inside.
        model: The same with newer operators, without functions and constants.
        image: Its input.
        labels: Labels that the file states, in the order of its outputs. `None`: it states none.
    """

    name: str
    sha256: str
    original: ModelProto
    model: ModelProto
    image: ImageTensor
    labels: tuple[str, ...] | None

    @property
    def size(self) -> int | None:
        """Height and width of the images that it reads. `None`: any."""
        return self.image.size

    @property
    def opset(self) -> int:
        """Version of its operators."""
        return opset_of(self.model)


def opset_of(model: ModelProto) -> int:
    """Return the version of the standard operators of a model, 0 without any."""
    return max(
        (each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0
    )


def read_network(path: Path) -> Network:
    """Read an ONNX file.

    Raises:
        ExportError: It is no ONNX file, or no classifier of RGB images.
    """
    if not path.is_file():
        raise ExportError(f"{path}: is not a file; give an ONNX file or the folder of a bundle")
    data = path.read_bytes()
    original = _parsed(path, data)
    _read_weights(path, original)
    inlined = _inlined(original)
    _check_nodes(path, inlined)
    model = _with_weights(_converted(path, inlined))
    sha256, labels = hashlib.sha256(data).hexdigest(), stated_labels(original)
    return Network(str(path), sha256, original, model, _image(path, original), labels)


def _parsed(path: Path, data: bytes) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        model.Clear()
    if not model.graph.node or not model.opset_import:
        raise ExportError(
            f"{path}: is not an ONNX file; export the network with torch.onnx.export, tf2onnx or "
            "another exporter of its framework"
        )
    return model


def _read_weights(path: Path, model: ModelProto) -> None:
    """Read weights that are in other files."""
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ExportError(
            f"{path}: has weights in other files (external data), which cannot be read: {error}"
        ) from error


def _inlined(model: ModelProto) -> ModelProto:
    """Return the model with its functions in the graph."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _check_nodes(path: Path, model: ModelProto) -> None:
    if any(a.type in _CONTROL_FLOW for node in model.graph.node for a in node.attribute):
        raise ExportError(
            f"{path}: has control flow (If, Loop, Scan), which no stage can have; export it again "
            "with a fixed height and width"
        )
    if any(node.domain in _OF_ONE_PROCESSOR for node in model.graph.node):
        raise ExportError(
            f"{path}: was optimised by ONNX Runtime for one processor (ORT_ENABLE_ALL); give the "
            "file from before, or optimise it with ORT_ENABLE_EXTENDED"
        )
    if any(node.op_type in _OF_A_BATCH for node in model.graph.node):
        raise ExportError(
            f"{path}: is quantised dynamically, by the largest value of a batch, so that an answer "
            "depends on the other images; quantise it statically (quantize_static of ONNX Runtime)"
        )


def _converted(path: Path, model: ModelProto) -> ModelProto:
    """Convert old operators to those that a stage needs."""
    version = opset_of(model)
    if version >= LEAST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:
        raise ExportError(
            f"{path}: has operators of opset {version}, which cannot be converted; export it again "
            f"with opset {LEAST_OPSET} or newer"
        ) from error


def _with_weights(model: ModelProto) -> ModelProto:
    """Return the model with weights for its constants, as which some converters write weights."""
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    for node in model.graph.node:
        values = [a.t for a in node.attribute if a.type == AttributeProto.TENSOR]
        if node.op_type == "Constant" and values:
            made.graph.initializer.add().CopyFrom(values[0])
            made.graph.initializer[-1].name = node.output[0]
        else:
            made.graph.node.append(node)
    return made


def inputs_of(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs of a graph. Old files list the weights among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _image(path: Path, model: ModelProto) -> ImageTensor:
    inputs = inputs_of(model)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "no name"
        raise ExportError(
            f"{path}: is not an image classifier: it has {len(inputs)} inputs ({names}), not one"
        )
    (value,) = inputs
    tensor = value.type.tensor_type
    axes = [axis.dim_value if axis.dim_value > 0 else None for axis in tensor.shape.dim]
    if tensor.elem_type not in DTYPES or len(axes) != 4:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ExportError(
            f"{path}: is not an image classifier: its input {value.name} is {kind} "
            f"{_shape(axes)}, not images [N, 3, H, W] or [N, H, W, 3] in floats or uint8"
        )
    if axes[1] == 3:
        layout: Layout = "nchw"
        sides = axes[2:]
    elif axes[3] == 3:
        layout, sides = "nhwc", axes[1:3]
    else:
        raise ExportError(
            f"{path}: its input {value.name} {_shape(axes)} has no axis of 3 channels; only RGB "
            "images are supported, and their channels cannot be a dynamic axis"
        )
    known = [side for side in sides if side is not None]
    if len(set(known)) > 1:
        raise ExportError(f"{path}: reads images {_shape(axes)}; only square ones are supported")
    size = known[0] if known else None
    return ImageTensor(value.name, DTYPES[tensor.elem_type], layout, axes[0], size)


def _shape(axes: list[int | None]) -> str:
    return f"[{', '.join('?' if axis is None else str(axis) for axis in axes)}]"


def stated_labels(model: ModelProto) -> tuple[str, ...] | None:
    """Return the labels that a file states in its metadata, in the order of its outputs.

    They are a list or a dict from numbers to labels, as JSON or as Python prints it, in one of
    LABEL_KEYS.
    """
    stated = {entry.key: entry.value for entry in model.metadata_props}
    return next(filter(None, map(_labels, _values(stated))), None)


def _values(stated: dict[str, str]) -> Iterator[object]:
    for key in LABEL_KEYS:
        for read in (json.loads, ast.literal_eval):
            try:
                yield read(stated[key])
                break
            except (KeyError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError):
                continue


def _labels(value: object) -> tuple[str, ...] | None:
    if isinstance(value, dict):
        numbered = {str(key): label for key, label in value.items()}
        value = [numbered.get(str(number)) for number in range(len(numbered))]
    if (
        isinstance(value, list | tuple)
        and len(value) > 1
        and all(isinstance(v, str) for v in value)
    ):
        return tuple(value)
    return None
