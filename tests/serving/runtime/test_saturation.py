from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from offramp.bundle.manifest import Manifest, read_manifest
from serving.runtime.cpu import CpuRuntime
from serving.runtime.saturation import has_wide_weights, saturates

BUNDLES = Path(__file__).parents[3] / "deploy" / "bundles"
INT8 = BUNDLES / "cifar10-msdnet-int8"
CPUINFO = Path("/proc/cpuinfo")


def widened(model: ModelProto) -> ModelProto:
    """Return a graph with one weight of 8 bits."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4:
            values = numpy_helper.to_array(tensor).copy()
            values.flat[0] = -127
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            return model
    raise AssertionError("there is no convolution of integers")


def with_wide_weights(folder: Path) -> Manifest:
    """Copy the bundle in 8-bit integers with one weight of 8 bits, and return its manifest."""
    shutil.copytree(INT8, folder)
    manifest = read_manifest(folder)
    first = manifest.stages[0]
    graph = widened(onnx.load(folder / first.file)).SerializeToString()
    (folder / first.file).write_bytes(graph)
    changed = first.model_copy(update={"sha256": hashlib.sha256(graph).hexdigest()})
    return manifest.model_copy(update={"stages": (changed, *manifest.stages[1:])})


def test_the_bundle_that_ships_has_7_bit_weights() -> None:
    models = [onnx.load(path) for path in sorted(INT8.glob("*.onnx"))]
    assert not has_wide_weights(models)
    assert has_wide_weights([models[-1], widened(models[0])])


def test_a_bundle_in_floats_has_no_wide_weights() -> None:
    paths = (BUNDLES / "cifar10-msdnet").glob("*.onnx")
    assert not has_wide_weights(onnx.load(path) for path in paths)


@pytest.mark.skipif(
    not CPUINFO.exists() or "avx2" not in CPUINFO.read_text(), reason="needs an x86 processor"
)
def test_processors_with_vnni_do_not_saturate() -> None:
    assert saturates() == ("vnni" not in CPUINFO.read_text())


def test_a_bundle_with_8_bit_weights_is_served_with_a_warning_where_sums_saturate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = with_wide_weights(tmp_path / "wide")
    runtime = CpuRuntime(tmp_path / "wide", manifest)
    image = np.zeros((1, *manifest.stages[0].inputs[0].shape), np.uint8)
    assert runtime.run(0, {"image": image}).confidence is not None
    assert ("offramp quantize" in caplog.text) == saturates()
    caplog.clear()
    CpuRuntime(INT8, read_manifest(INT8))
    assert not caplog.text
