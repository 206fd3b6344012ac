from __future__ import annotations

import gc
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest
from serving.runtime.cpu import CpuRuntime
from serving.runtime.stage_cache import StageCache, key_of, structure_of
from tests.serving.engines import MakeImages


def outputs(runtime: CpuRuntime, images: MakeImages) -> list[Any]:
    """Return the probabilities of every exit."""
    known: dict[str, Any] = {"image": images(2, 3)}
    found = []
    for stage in range(len(runtime.inputs)):
        output = runtime.run(stage, known)
        found.append(output.probabilities)
        known |= output.features
    return found


def test_the_same_graphs_have_the_same_sessions(
    bundle: Path, manifest: Manifest, images: MakeImages
) -> None:
    cache = StageCache()
    first = CpuRuntime(bundle, manifest, cache=cache)
    other = manifest.model_copy(update={"version": "2", "labels": manifest.labels[::-1]})
    second = CpuRuntime(bundle, other, cache=cache)
    assert (first.warm, second.warm) == (False, True)
    assert cache.find(key_of(manifest, "native")) is not None
    expected = outputs(first, images)
    del first
    gc.collect()
    np.testing.assert_array_equal(outputs(second, images), expected)
    third = CpuRuntime(bundle, manifest, cache=cache)
    assert third.warm
    del second, third
    gc.collect()
    assert cache.find(key_of(manifest, "native")) is None


def test_graphs_with_other_weights_have_their_own_sessions(
    bundle: Path, manifest: Manifest, tmp_path: Path, images: MakeImages
) -> None:
    folder = shutil.copytree(bundle, tmp_path / "other")
    model = onnx.load(folder / manifest.stages[0].file)
    scale_weights(model)
    graph = model.SerializeToString()
    (folder / manifest.stages[0].file).write_bytes(graph)
    sha256 = hashlib.sha256(graph).hexdigest()
    first = manifest.stages[0].model_copy(update={"sha256": sha256})
    other = manifest.model_copy(update={"stages": (first, *manifest.stages[1:])})
    cache = StageCache()
    loaded = CpuRuntime(bundle, manifest, cache=cache)
    beside, alone = CpuRuntime(folder, other, cache=cache), CpuRuntime(folder, other)
    assert not beside.warm
    assert loaded.structure == beside.structure == alone.structure
    assert beside.features == alone.features
    np.testing.assert_array_equal(outputs(beside, images), outputs(alone, images))
    assert not np.allclose(outputs(beside, images), outputs(loaded, images))


def test_a_damaged_graph_is_refused_although_others_use_its_stages(
    bundle: Path, manifest: Manifest, tmp_path: Path
) -> None:
    cache = StageCache()
    kept = CpuRuntime(bundle, manifest, "portable", cache)
    folder = shutil.copytree(bundle, tmp_path / "damaged")
    with (folder / manifest.stages[1].file).open("ab") as graph:
        graph.write(b"?")
    with pytest.raises(BundleError, match="sha256"):
        CpuRuntime(folder, manifest, "portable", cache)
    assert not kept.warm


def test_what_is_checked_on_graphs_is_part_of_the_key(manifest: Manifest) -> None:
    stages = list(manifest.stages)
    wide = stages[1].inputs[0].model_copy(update={"shape": (1, 2, 3)})
    stages[1] = stages[1].model_copy(update={"inputs": (wide,)})
    others = [
        manifest.model_copy(update={"labels": manifest.labels[:-1]}),
        manifest.model_copy(update={"stages": tuple(stages)}),
        manifest.model_copy(update={"stages": manifest.stages[:-1]}),
    ]
    keys = {key_of(each, "native") for each in (manifest, *others)}
    assert len(keys | {key_of(manifest, "portable")}) == 5
    assert key_of(manifest.model_copy(update={"version": "2"}), "native") in keys


def weights_of(model: ModelProto, data_type: int) -> list[TensorProto]:
    return [each for each in model.graph.initializer if each.data_type == data_type]


def scale_weights(model: ModelProto) -> None:
    for each in weights_of(model, TensorProto.FLOAT):
        values = np.asarray(numpy_helper.to_array(each) * np.float32(1.5))
        each.CopyFrom(numpy_helper.from_array(values, each.name))


def widen_a_weight(model: ModelProto) -> None:
    weights_of(model, TensorProto.FLOAT)[0].dims.append(1)


def name_a_node_otherwise(model: ModelProto) -> None:
    model.graph.node[0].op_type = "Identity"


@pytest.mark.parametrize(
    ("stage", "change", "same"),
    [
        (0, scale_weights, True),
        (1, scale_weights, False),  # Resize reads a size from one of them
        (0, widen_a_weight, False),
        (0, name_a_node_otherwise, False),
    ],
)
def test_only_values_of_weights_are_not_part_of_the_structure(
    bundle: Path, manifest: Manifest, stage: int, change: Callable[[ModelProto], None], same: bool
) -> None:
    model = onnx.load(bundle / manifest.stages[stage].file)
    before = structure_of([model])
    change(model)
    assert (structure_of([model]) == before) == same


def test_sizes_that_arithmetic_reads_are_part_of_the_structure() -> None:
    def structure(size: int) -> str:
        weight = numpy_helper.from_array(np.array([size]), "size")
        node = helper.make_node("Mul", ["x", "size"], ["y"])
        return structure_of(
            [helper.make_model(helper.make_graph([node], "sizes", [], [], [weight]))]
        )

    assert structure(2) == structure(2) != structure(3)
