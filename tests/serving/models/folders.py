"""Folders of models, whose versions are copies of the small bundle with labels of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def add_version(models: Path, bundle: Path, name: str, version: str) -> Path:
    """Copy the bundle. Its labels name the model and the version, as in `cats-2-class0`."""
    folder = shutil.copytree(bundle, models / name / version)
    manifest = folder / "manifest.json"
    document = json.loads(manifest.read_text())
    document["labels"] = [f"{name}-{version}-{label}" for label in document["labels"]]
    manifest.write_text(json.dumps(document))
    return folder


def damage(folder: Path) -> None:
    """Change a graph, so that its hash is not the manifest's."""
    graph = folder / "stage4.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
