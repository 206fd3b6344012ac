"""The stage graphs of a bundle as one plain network: what a server without exits runs."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import compose

from serving.manifest import Manifest, read_graph

PROBABILITIES, CONFIDENCE = "probabilities", "confidence"


def full_depth(folder: Path, manifest: Manifest) -> onnx.ModelProto:
    """One graph, image to the last exit's `probabilities`, without the other heads."""
    stages = [onnx.load_model_from_string(read_graph(folder, s)) for s in manifest.stages]
    model = compose.add_prefix(stages[0], "s1/")
    for k, (before, after) in enumerate(zip(manifest.stages, stages[1:], strict=False), 2):
        wires = [
            (f"s{k - 1}/{given.name}", f"s{k}/{taken.name}")
            for given, taken in zip(before.features, manifest.stages[k - 1].inputs, strict=True)
        ]
        # outputs that are not named are dropped, and what only they need with them
        model = compose.merge_models(model, compose.add_prefix(after, f"s{k}/"), wires)
    return _only(model, f"s1/{manifest.stages[0].inputs[0].name}", f"s{manifest.exits}/")


def _only(model: onnx.ModelProto, image: str, prefix: str) -> onnx.ModelProto:
    extracted = onnx.utils.Extractor(model).extract_model([image], [prefix + PROBABILITIES])
    del extracted.graph.value_info[:]
    for node in extracted.graph.node:
        node.input[:] = ["image" if name == image else name for name in node.input]
        node.output[:] = [
            PROBABILITIES if name == prefix + PROBABILITIES else name for name in node.output
        ]
    extracted.graph.input[0].name, extracted.graph.output[0].name = "image", PROBABILITIES
    onnx.checker.check_model(extracted, full_check=True)
    return extracted


def write_full_depth(folder: Path, manifest: Manifest, path: Path) -> Path:
    """Write that graph to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(full_depth(folder, manifest).SerializeToString())
    return path
