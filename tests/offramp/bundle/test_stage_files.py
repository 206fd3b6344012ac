from __future__ import annotations

from pathlib import Path

import pytest

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.stage_files import read_graph


def test_a_bundle_is_read_and_its_graphs_have_the_right_hash(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.exits == 4
    assert all(len(read_graph(bundle, stage)) > 1000 for stage in manifest.stages)


def test_a_graph_with_a_wrong_hash_is_refused_by_name(damaged: Path, manifest: Manifest) -> None:
    path = damaged / "stage2.onnx"
    graph = bytearray(path.read_bytes())
    graph[len(graph) // 2] ^= 1
    path.write_bytes(graph)
    with pytest.raises(BundleError, match=r"stage2\.onnx: its sha256"):
        read_graph(damaged, manifest.stages[1])


def test_a_missing_graph_is_refused_by_name(damaged: Path, manifest: Manifest) -> None:
    (damaged / "stage3.onnx").unlink()
    with pytest.raises(BundleError, match=r"stage3\.onnx: cannot be read"):
        read_graph(damaged, manifest.stages[2])
