"""The stage graphs of a bundle as one plain network: what a server without exits runs."""

from __future__ import annotations

from pathlib import Path

import onnx

from serving.manifest import Manifest, read_graph

PROBABILITIES = "probabilities"


def full_depth(folder: Path, manifest: Manifest) -> onnx.ModelProto:
    """One graph, image to the last exit's `probabilities`, without the other heads."""
    kept = {t.name for stage in manifest.stages for t in (*stage.inputs, *stage.features)}
    whole = onnx.ModelProto()
    for k, stage in enumerate(manifest.stages, 1):
        last = {PROBABILITIES} if k == manifest.exits else set()
        part = onnx.load_model_from_string(read_graph(folder, stage))
        _rename(part.graph, kept | last, f"stage{k}/")
        if k == 1:
            whole.CopyFrom(part)
            continue
        whole.graph.node.extend(part.graph.node)
        whole.graph.initializer.extend(part.graph.initializer)
        whole.graph.output.extend(part.graph.output)
    del whole.graph.value_info[:]
    image = manifest.stages[0].inputs[0].name
    model = onnx.utils.Extractor(whole).extract_model([image], [PROBABILITIES])
    onnx.checker.check_model(model, full_check=True)
    return model


def _rename(graph: onnx.GraphProto, kept: set[str], prefix: str) -> None:
    """Put a prefix before every name but those kept."""
    for value in (*graph.initializer, *graph.output):
        value.name = _prefixed(value.name, kept, prefix)
    for node in graph.node:
        node.name = prefix + node.name
        node.input[:] = [_prefixed(name, kept, prefix) for name in node.input]
        node.output[:] = [_prefixed(name, kept, prefix) for name in node.output]


def _prefixed(name: str, kept: set[str], prefix: str) -> str:
    return name if not name or name in kept else prefix + name


def write_full_depth(folder: Path, manifest: Manifest, path: Path) -> Path:
    """Write that graph to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(full_depth(folder, manifest).SerializeToString())
    return path
