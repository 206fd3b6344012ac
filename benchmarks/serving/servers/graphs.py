"""Join the stage graphs of a bundle into one network without early exits."""

from __future__ import annotations

from pathlib import Path

import onnx

from offramp.bundle.graphs import cut, exit_outputs, join
from offramp.bundle.manifest import Manifest
from offramp.bundle.stage_files import read_graph


def full_depth(folder: Path, manifest: Manifest) -> onnx.ModelProto:
    """Return one graph from `image` to the last exit's `probabilities`, without early exits."""
    stages = [onnx.load_model_from_string(read_graph(folder, stage)) for stage in manifest.stages]
    probabilities, _ = exit_outputs(manifest.exits)[-1]
    (model,) = cut(join(stages), [[probabilities]])
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def write_full_depth(folder: Path, manifest: Manifest, path: Path) -> Path:
    """Write the graph of `full_depth` to a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(full_depth(folder, manifest).SerializeToString())
    return path
