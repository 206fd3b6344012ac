import hashlib
import tempfile
from pathlib import Path
from typing import Never

import numpy as np
import onnx
import pytest

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import read_manifest
from serving.runtime.cpu import CpuRuntime
from serving.runtime.native_layout import portable_stages
from serving.runtime.stage import load_stage

BUNDLES = Path(__file__).parents[3] / "deploy" / "bundles"


@pytest.fixture(scope="module", params=["native", "portable"])
def runtime(bundle, manifest, request):
    return CpuRuntime(bundle, manifest, layout=request.param)


def chain(runtime, images):
    known = {"image": images}
    for stage in range(4):
        output = runtime.run(stage, known)
        known |= output.features
        yield output


def rehashed(manifest, folder, stage, graph):
    """The manifest of a bundle whose stage (from 0) was exchanged, hash and all."""
    (folder / manifest.stages[stage].file).write_bytes(graph)
    stages = list(manifest.stages)
    sha256 = hashlib.sha256(graph).hexdigest()
    stages[stage] = stages[stage].model_copy(update={"sha256": sha256})
    return manifest.model_copy(update={"stages": tuple(stages)})


def changed(bundle, manifest, folder, stage, change):
    model = onnx.load(bundle / manifest.stages[stage].file)
    change(model.graph)
    return rehashed(manifest, folder, stage, model.SerializeToString())


def test_the_chain_gives_probabilities_and_their_maximum(runtime, images) -> None:
    for output in chain(runtime, images(5, 3)):
        assert output.probabilities.shape == (5, 10)
        assert output.probabilities.dtype == output.confidence.dtype == np.float32
        np.testing.assert_allclose(output.probabilities.sum(1), 1, atol=1e-5)
        np.testing.assert_array_equal(output.confidence, output.probabilities.max(1))


def test_a_row_does_not_depend_on_its_batch(runtime, images) -> None:
    several = images(7, 4)
    together = [output.probabilities[3] for output in chain(runtime, several)]
    alone = [output.probabilities[0] for output in chain(runtime, several[3:4])]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_without_its_head_a_stage_gives_the_same_features(runtime, images) -> None:
    known = {"image": images(5, 6)}
    for stage in range(3):
        with_head = runtime.run(stage, known)
        without = runtime.run(stage, known, head=False)
        assert without.probabilities is without.confidence is None
        assert without.features.keys() == with_head.features.keys()
        for name, tensor in without.features.items():
            np.testing.assert_array_equal(tensor, with_head.features[name])
        known |= without.features
    assert runtime.run(3, known, head=False).probabilities.shape == (5, 10)


def test_tensors_are_as_it_says(runtime, images) -> None:
    for stage, output in enumerate(chain(runtime, images(3, 7))):
        assert list(output.features) == [spec.name for spec in runtime.features[stage]]
        for spec in runtime.features[stage]:
            tensor = output.features[spec.name]
            assert (tensor.shape, tensor.dtype) == ((3, *spec.shape), spec.dtype)
    given = {spec for features in runtime.features for spec in features}
    assert {spec for inputs in runtime.inputs[1:] for spec in inputs} == given


def test_layouts_agree(bundle, manifest, images, caplog) -> None:
    native, portable = (
        CpuRuntime(bundle, manifest, layout=name) for name in ("native", "portable")
    )
    assert not caplog.records, "the native one is no other"
    assert portable.inputs == tuple(stage.inputs for stage in manifest.stages)
    for one, other in zip(chain(native, images(9, 8)), chain(portable, images(9, 8)), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-6)


def test_where_nothing_can_be_written_the_layout_is_portable(
    bundle, manifest, monkeypatch, caplog, tmp_path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is not there"))
    runtime = CpuRuntime(bundle, manifest)
    assert "layout native cannot be had, portable is taken instead" in caplog.text
    assert runtime.features == tuple(stage.features for stage in manifest.stages)
    runtime.warm_up(1)


def assert_through_gives_what_the_stages_give(runtime, exits, images) -> None:
    known = {"image": images}
    for stage in range(exits):
        output = runtime.run(stage, known, head=False)
        known |= output.features
    assert runtime.whole_network
    whole_network = runtime.run_whole({"image": images})
    assert whole_network.features == {}
    for one, other in (
        (whole_network.probabilities, output.probabilities),
        (whole_network.confidence, output.confidence),
    ):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_the_way_through_gives_what_the_stages_give(runtime, images) -> None:
    for size in (1, 5, 8):
        assert_through_gives_what_the_stages_give(runtime, 4, images(size, size))


@pytest.mark.parametrize("name", ["cifar10-msdnet", "cifar10-msdnet-int8"])
@pytest.mark.parametrize("layout", ["native", "portable"])
def test_so_it_does_of_the_bundles_that_ship(name, layout, images, caplog) -> None:
    folder = BUNDLES / name
    manifest = read_manifest(folder)
    runtime = CpuRuntime(folder, manifest, layout)
    assert not caplog.records
    assert_through_gives_what_the_stages_give(runtime, manifest.exits, images(9, 3))


def test_where_the_whole_answers_otherwise_the_stages_serve(
    bundle, damaged, manifest, images, caplog
) -> None:
    def at_random(graph) -> None:
        softmax = next(node for node in graph.node if node.op_type == "Softmax")
        noise = onnx.helper.make_node("RandomNormalLike", ["logits"], ["noise"], dtype=1)
        noisy = onnx.helper.make_node("Add", ["logits", "noise"], ["noisy"])
        place = list(graph.node).index(softmax)
        softmax.input[0] = "noisy"
        graph.node.insert(place, noisy)
        graph.node.insert(place, noise)

    random = changed(bundle, manifest, damaged, 3, at_random)
    runtime = CpuRuntime(damaged, random, "portable")
    assert "all stages in one graph cannot be had, they run one by one: exit 1" in caplog.text
    assert not runtime.whole_network
    runtime.warm_up(2)
    *_, last = chain(runtime, images(2, 1))
    assert last.probabilities.shape == (2, 10)


def test_there_is_no_way_through_a_single_stage(bundle, manifest, caplog) -> None:
    assert portable_stages([load_stage(bundle, manifest, 0)]).whole_network is None
    assert not caplog.records


def test_warm_up_runs_every_stage_and_the_way_through(runtime, monkeypatch) -> None:
    runtime.warm_up(1)
    runtime.warm_up(8)

    class Broken:
        def run(self, *_, **__) -> Never:
            raise RuntimeError("no memory")

    monkeypatch.setattr(runtime, "_whole_network", Broken())
    with pytest.raises(BundleError, match="fails to run as one graph: no memory"):
        runtime.warm_up(1)


@pytest.mark.parametrize("graph", [b"", b"no graph at all", b"\x08\x08" * 50])
def test_a_damaged_graph_of_the_right_hash_is_refused_by_name(damaged, manifest, graph) -> None:
    with pytest.raises(BundleError, match=r"stage2\.onnx: cannot be loaded"):
        CpuRuntime(damaged, rehashed(manifest, damaged, 1, graph))


def rename_output(graph) -> None:
    for node in graph.node:
        node.output[:] = ["certainty" if o == "confidence" else o for o in node.output]
    next(o for o in graph.output if o.name == "confidence").name = "certainty"


def fix_batch(graph) -> None:
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def add_class(graph) -> None:
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
def test_a_graph_other_than_the_manifest_says_is_refused(
    bundle, damaged, manifest, change, says
) -> None:
    other = changed(bundle, manifest, damaged, 0, change)
    with pytest.raises(BundleError, match=rf"stage1\.onnx: .*{says}"):
        CpuRuntime(damaged, other)


def test_a_graph_that_fails_to_run_is_refused_at_warm_up(bundle, damaged, manifest) -> None:
    def read_past_the_end(graph) -> None:
        flatten = next(node for node in graph.node if node.op_type == "Flatten")
        graph.initializer.append(onnx.numpy_helper.from_array(np.full(128, 999), "index"))
        gather = onnx.helper.make_node("Gather", ["all", "index"], list(flatten.output), axis=1)
        graph.node.insert(list(graph.node).index(flatten) + 1, gather)
        flatten.output[0] = "all"

    runtime = CpuRuntime(damaged, changed(bundle, manifest, damaged, 2, read_past_the_end))
    with pytest.raises(BundleError, match=r"stage3\.onnx: fails to run"):
        runtime.warm_up(1)


def test_a_number_that_is_none_shows_in_the_confidence(bundle, damaged, manifest, images) -> None:
    def overflow(graph) -> None:
        divide = next(node for node in graph.node if node.output[0] == "scaled")
        divide.input[1] = "zero"
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "zero"))

    runtime = CpuRuntime(damaged, changed(bundle, manifest, damaged, 0, overflow))
    assert np.isnan(runtime.run(0, {"image": images(3, 0)}).confidence).all()
