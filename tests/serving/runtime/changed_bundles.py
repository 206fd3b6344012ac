"""Bundles with another graph of a stage, whose hash the manifest has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import GraphProto

from offramp.bundle.manifest import Manifest

Change = Callable[[GraphProto], None]


def rehashed(manifest: Manifest, folder: Path, stage: int, graph: bytes) -> Manifest:
    """Replace a stage (from 0) of a bundle. Return the manifest with its hash."""
    (folder / manifest.stages[stage].file).write_bytes(graph)
    stages = list(manifest.stages)
    sha256 = hashlib.sha256(graph).hexdigest()
    stages[stage] = stages[stage].model_copy(update={"sha256": sha256})
    return manifest.model_copy(update={"stages": tuple(stages)})


def changed(bundle: Path, manifest: Manifest, folder: Path, stage: int, change: Change) -> Manifest:
    model = onnx.load(bundle / manifest.stages[stage].file)
    change(model.graph)
    return rehashed(manifest, folder, stage, model.SerializeToString())
