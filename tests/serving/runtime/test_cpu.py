from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Never

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import GraphProto

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, read_manifest
from serving.runtime.base import Runtime, StageOutput
from serving.runtime.cpu import CpuRuntime
from serving.runtime.native_layout import portable_stages
from serving.runtime.stage import load_stage
from serving.settings import Layout
from tests.serving.engines import MakeImages
from tests.serving.runtime.changed_bundles import changed
from tests.serving.runtime.devices import exit_of

BUNDLES = Path(__file__).parents[3] / "deploy" / "bundles"


LAYOUTS: tuple[Layout, ...] = ("native", "portable")


class Broken(CpuRuntime):
    """A runtime whose graph of all stages cannot run."""

    def run_whole(self, *_: object) -> Never:
        raise RuntimeError("no memory")


@pytest.fixture(scope="module", params=LAYOUTS)
def runtime(bundle: Path, manifest: Manifest, request: pytest.FixtureRequest) -> Runtime:
    return CpuRuntime(bundle, manifest, layout=request.param)


def chain(runtime: Runtime, images: NDArray[np.uint8]) -> Iterator[StageOutput]:
    known: dict[str, NDArray[np.generic]] = {"image": images}
    for stage in range(4):
        output = runtime.run(stage, known)
        known |= output.features
        yield output


def test_the_chain_gives_probabilities_and_their_maximum(
    runtime: Runtime, images: MakeImages
) -> None:
    for output in chain(runtime, images(5, 3)):
        probabilities, confidence = exit_of(output)
        assert probabilities.shape == (5, 10)
        assert probabilities.dtype == confidence.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
        np.testing.assert_array_equal(confidence, probabilities.max(1))


def test_a_row_does_not_depend_on_its_batch(runtime: Runtime, images: MakeImages) -> None:
    several = images(7, 4)
    together = [exit_of(output)[0][3] for output in chain(runtime, several)]
    alone = [exit_of(output)[0][0] for output in chain(runtime, several[3:4])]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_without_its_head_a_stage_gives_the_same_features(
    runtime: Runtime, images: MakeImages
) -> None:
    known: dict[str, NDArray[np.generic]] = {"image": images(5, 6)}
    for stage in range(3):
        with_head = runtime.run(stage, known)
        without = runtime.run(stage, known, head=False)
        assert without.probabilities is without.confidence is None
        assert without.features.keys() == with_head.features.keys()
        for name, tensor in without.features.items():
            np.testing.assert_array_equal(tensor, with_head.features[name])
        known |= without.features
    assert exit_of(runtime.run(3, known, head=False))[0].shape == (5, 10)


def test_tensors_are_as_the_runtime_describes_them(runtime: Runtime, images: MakeImages) -> None:
    for stage, output in enumerate(chain(runtime, images(3, 7))):
        assert list(output.features) == [spec.name for spec in runtime.features[stage]]
        for spec in runtime.features[stage]:
            tensor = output.features[spec.name]
            assert (tensor.shape, str(tensor.dtype)) == ((3, *spec.shape), spec.dtype)
    given = {spec for features in runtime.features for spec in features}
    assert {spec for inputs in runtime.inputs[1:] for spec in inputs} == given


def test_layouts_agree(
    bundle: Path, manifest: Manifest, images: MakeImages, caplog: pytest.LogCaptureFixture
) -> None:
    native, portable = (CpuRuntime(bundle, manifest, layout=name) for name in LAYOUTS)
    assert not caplog.records, "the native one is no other"
    assert portable.inputs == tuple(stage.inputs for stage in manifest.stages)
    for one, other in zip(chain(native, images(9, 8)), chain(portable, images(9, 8)), strict=True):
        np.testing.assert_allclose(exit_of(one)[0], exit_of(other)[0], rtol=0, atol=1e-6)


def test_the_layout_is_portable_if_no_file_can_be_written(
    bundle: Path,
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is not there"))
    runtime = CpuRuntime(bundle, manifest)
    assert "layout native is not available, portable is used instead" in caplog.text
    assert runtime.features == tuple(stage.features for stage in manifest.stages)
    runtime.warm_up(1)


def assert_the_whole_network_equals_the_stages(
    runtime: Runtime, exits: int, images: NDArray[np.uint8]
) -> None:
    known: dict[str, NDArray[np.generic]] = {"image": images}
    for stage in range(exits):
        output = runtime.run(stage, known, head=False)
        known |= output.features
    assert runtime.whole_network
    whole_network = runtime.run_whole({"image": images})
    assert whole_network.features == {}
    for one, other in zip(exit_of(whole_network), exit_of(output), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_the_whole_network_equals_the_stages(runtime: Runtime, images: MakeImages) -> None:
    for size in (1, 5, 8):
        assert_the_whole_network_equals_the_stages(runtime, 4, images(size, size))


@pytest.mark.parametrize("name", ["cifar10-msdnet", "cifar10-msdnet-int8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_whole_network_equals_the_stages_of_the_bundles_in_this_repository(
    name: str, layout: Layout, images: MakeImages, caplog: pytest.LogCaptureFixture
) -> None:
    folder = BUNDLES / name
    manifest = read_manifest(folder)
    runtime = CpuRuntime(folder, manifest, layout)
    assert not caplog.records
    assert_the_whole_network_equals_the_stages(runtime, manifest.exits, images(9, 3))


def test_the_stages_serve_if_the_whole_network_has_other_outputs(
    bundle: Path,
    damaged: Path,
    manifest: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def at_random(graph: GraphProto) -> None:
        softmax = next(node for node in graph.node if node.op_type == "Softmax")
        noise = onnx.helper.make_node("RandomNormalLike", ["logits"], ["noise"], dtype=1)
        noisy = onnx.helper.make_node("Add", ["logits", "noise"], ["noisy"])
        place = list(graph.node).index(softmax)
        softmax.input[0] = "noisy"
        graph.node.insert(place, noisy)
        graph.node.insert(place, noise)

    random = changed(bundle, manifest, damaged, 3, at_random)
    runtime = CpuRuntime(damaged, random, "portable")
    assert "all stages in one graph are not available, they run one by one: exit 1" in caplog.text
    assert not runtime.whole_network
    runtime.warm_up(2)
    *_, last = chain(runtime, images(2, 1))
    assert exit_of(last)[0].shape == (2, 10)


def test_a_single_stage_has_no_graph_of_the_whole_network(
    bundle: Path, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    assert portable_stages([load_stage(bundle, manifest, 0)]).whole_network is None
    assert not caplog.records


@pytest.mark.parametrize("layout", LAYOUTS)
def test_warm_up_runs_every_stage_and_the_whole_network(
    bundle: Path, manifest: Manifest, layout: Layout
) -> None:
    runtime = CpuRuntime(bundle, manifest, layout)
    runtime.warm_up(1)
    runtime.warm_up(8)
    with pytest.raises(BundleError, match="fails to run as one graph: no memory"):
        Broken(bundle, manifest, layout).warm_up(1)
