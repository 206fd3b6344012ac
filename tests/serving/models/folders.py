"""Folders of models, whose versions are copies of the small bundle with labels of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper


def add_version(models: Path, bundle: Path, name: str, version: str) -> Path:
    """Copy the bundle. Its labels name the model and the version, as in `cats-2-class0`."""
    folder = shutil.copytree(bundle, models / name / version)
    manifest = folder / "manifest.json"
    document = json.loads(manifest.read_text())
    document["labels"] = [f"{name}-{version}-{label}" for label in document["labels"]]
    manifest.write_text(json.dumps(document))
    return folder


def change_weights(folder: Path) -> None:
    """Give a version other weights in one graph, with the hash of it."""
    document = json.loads((folder / "manifest.json").read_text())
    stage = document["stages"][-1]
    model = onnx.load(folder / stage["file"])
    floats = (t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    weight = max(floats, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
    graph = model.SerializeToString()
    (folder / stage["file"]).write_bytes(graph)
    stage["sha256"] = hashlib.sha256(graph).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(document))


def damage(folder: Path) -> None:
    """Change a graph, so that its hash is not the manifest's."""
    graph = folder / "stage4.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
