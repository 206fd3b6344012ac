"""Graphs of a bundle, read from their files and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, TensorProto

from offramp.bundle.errors import BundleError
from offramp.bundle.files import read_regular_file
from offramp.bundle.manifest import StageSpec


def read_graph(folder: Path, stage: StageSpec) -> bytes:
    """Read a stage's graph and check its hash.

    Raises:
        BundleError: As `read_model` raises.
    """
    return read_model(folder, stage)[0]


def read_model(folder: Path, stage: StageSpec) -> tuple[bytes, ModelProto | None]:
    """Read a stage's graph and check its hash. Return it as it is and parsed.

    A text that is not a model is left to the runtime, and `None` here.

    Raises:
        BundleError: The file is missing, is not the exported one, or has weights in other files,
            which have no hash.
    """
    path = folder / stage.file
    try:
        graph = read_regular_file(path)
    except OSError as error:
        raise BundleError(path, f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(graph).hexdigest() != stage.sha256:
        raise BundleError(path, "its sha256 is not the manifest's; copy or export the bundle again")
    return graph, check_weights_inside(path, graph)


def check_weights_inside(path: Path, graph: bytes) -> ModelProto | None:
    """Check that a graph has no external data. Return it parsed.

    ONNX Runtime would read it from the working directory, and no hash covers it.

    Args:
        path: File of the graph, for the error.
        graph: ONNX model. A text that is not a model is left to the runtime.

    Raises:
        BundleError: A tensor of the graph is in another file.
    """
    try:
        model: ModelProto = ModelProto.FromString(graph)
    except DecodeError:
        return None
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise BundleError(
                path,
                f"the weight {tensor.name!r} is in another file{_file_of(tensor)}, which the "
                "manifest has no hash of; export the bundle again",
            )
    return model


def _file_of(tensor: TensorProto) -> str:
    files = [entry.value for entry in tensor.external_data if entry.key == "location"]
    return f" ({files[0]})" if files else ""


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Yield every tensor of a model: weights, attributes, subgraphs, functions."""
    messages = [message]
    while messages:
        each = messages.pop()
        if isinstance(each, TensorProto):
            yield each
            continue
        for field, value in each.ListFields():
            if field.message_type is not None:
                messages += [value] if isinstance(value, Message) else value
