"""Bundles that the CPU runtime refuses, and outputs that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest
from serving.runtime.cpu import CpuRuntime
from tests.serving.engines import MakeImages
from tests.serving.runtime.changed_bundles import Change, changed, rehashed
from tests.serving.runtime.devices import exit_of


@pytest.mark.parametrize("graph", [b"", b"no graph at all", b"\x08\x08" * 50])
def test_a_damaged_graph_with_the_right_hash_is_refused_by_name(
    damaged: Path, manifest: Manifest, graph: bytes
) -> None:
    with pytest.raises(BundleError, match=r"stage2\.onnx: cannot be loaded"):
        CpuRuntime(damaged, rehashed(manifest, damaged, 1, graph))


def rename_output(graph: GraphProto) -> None:
    for node in graph.node:
        node.output[:] = ["certainty" if o == "confidence" else o for o in node.output]
    next(o for o in graph.output if o.name == "confidence").name = "certainty"


def fix_batch(graph: GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def add_class(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.name == "dense.w":
            wider = np.pad(onnx.numpy_helper.to_array(tensor), ((0, 0), (0, 1)))
            tensor.CopyFrom(onnx.numpy_helper.from_array(wider, "dense.w"))
    shape = next(o for o in graph.output if o.name == "probabilities").type.tensor_type.shape
    shape.dim[1].dim_value = 11


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename_output, "outputs are .*certainty.*the manifest says.*confidence"),
        (fix_batch, "fixed batch axis"),
        (add_class, "probabilities is .*11.*the manifest says.*10"),
    ],
)
def test_a_graph_that_differs_from_the_manifest_is_refused(
    bundle: Path, damaged: Path, manifest: Manifest, change: Change, says: str
) -> None:
    other = changed(bundle, manifest, damaged, 0, change)
    with pytest.raises(BundleError, match=rf"stage1\.onnx: .*{says}"):
        CpuRuntime(damaged, other)


def test_a_graph_that_fails_to_run_is_refused_at_warm_up(
    bundle: Path, damaged: Path, manifest: Manifest
) -> None:
    def read_past_the_end(graph: GraphProto) -> None:
        flatten = next(node for node in graph.node if node.op_type == "Flatten")
        graph.initializer.append(onnx.numpy_helper.from_array(np.full(128, 999), "index"))
        gather = onnx.helper.make_node("Gather", ["all", "index"], list(flatten.output), axis=1)
        graph.node.insert(list(graph.node).index(flatten) + 1, gather)
        flatten.output[0] = "all"

    runtime = CpuRuntime(damaged, changed(bundle, manifest, damaged, 2, read_past_the_end))
    with pytest.raises(BundleError, match=r"stage3\.onnx: fails to run"):
        runtime.warm_up(1)


def test_a_value_that_is_not_finite_makes_the_confidence_nan(
    bundle: Path, damaged: Path, manifest: Manifest, images: MakeImages
) -> None:
    def overflow(graph: GraphProto) -> None:
        divide = next(node for node in graph.node if node.output[0] == "scaled")
        divide.input[1] = "zero"
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"))

    runtime = CpuRuntime(damaged, changed(bundle, manifest, damaged, 0, overflow))
    assert np.isnan(exit_of(runtime.run(0, {"image": images(3, 0)}))[1]).all()
