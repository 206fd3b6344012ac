from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporter.bundle import Naming, make_manifest, with_new_measurements, write_bundle
from exporter.errors import ExportError
from exporter.graph import StageGraph, parameter_count
from exporter.quantize.__main__ import main
from exporter.quantize.convert import agreement, own_images, quantize
from exporter.to_int8 import quantized
from exporter.verify import Chain
from offramp.bundle.graphs import join
from offramp.bundle.manifest import read_manifest
from serving.runtime.cpu import Runtime
from serving.runtime.cuda import DeviceRuntime
from serving.runtime.cuda_slots import Device, DevicePool
from tests.exporter.exported import checkpoint, export, held_out
from tests.training.samples import PARQUET, tiny_dataset


@pytest.fixture(scope="module")
def manifest():
    naming = Naming(name="tiny", version="1", dataset="cifar10-500")
    return make_manifest(checkpoint(), export(), naming, "max_softmax")


@pytest.fixture(scope="module")
def integers(manifest):
    return quantize(manifest, export().graphs, tiny_dataset())


@pytest.fixture(scope="module")
def halves(manifest):
    return quantize(manifest, export().graphs, tiny_dataset(), "fp16")


def test_convolutions_read_integers_and_nothing_else() -> None:
    whole = join([graph.model for graph in export().graphs])
    made = quantized(whole, tiny_dataset().train.pixels[:64].numpy())
    makers = {name: node.op_type for node in made.graph.node for name in node.output}
    read = [
        makers[name] for node in made.graph.node if node.op_type == "Conv" for name in node.input
    ]
    assert set(read) == {"DequantizeLinear"}
    assert {v.name for v in made.graph.output} == {v.name for v in whole.graph.output}


def test_stages_hand_integers_on_and_cost_what_they_did(integers) -> None:
    floats = export().graphs
    for made, before in zip(integers.export.graphs, floats, strict=True):
        onnx.checker.check_model(made.model, full_check=True)
        assert {spec.dtype for spec in made.features} <= {"uint8"}
        assert [s.shape for s in made.features] == [s.shape for s in before.features]
        assert (made.flops, made.head_flops) == (before.flops, before.head_flops)
        # each exit has its temperature, which stays as it is
        assert parameter_count(made.model) == parameter_count(before.model)
    assert integers.export.scored.confidence.shape == export().scored.confidence.shape


def test_stages_hand_half_floats_on_and_cost_what_they_did(halves) -> None:
    for made, before in zip(halves.export.graphs, export().graphs, strict=True):
        onnx.checker.check_model(made.model, full_check=True)
        assert {spec.dtype for spec in made.features} <= {"float16"}
        assert [s.shape for s in made.features] == [s.shape for s in before.features]
        assert (made.flops, made.head_flops) == (before.flops, before.head_flops)
        assert parameter_count(made.model) == parameter_count(before.model)


@pytest.mark.parametrize(("kind", "share"), [("integers", 0.9), ("halves", 0.98)])
def test_nearly_all_classes_stay(manifest, kind, share, request) -> None:
    before = Chain(export().graphs).run(held_out().pixels)
    for exit_ in agreement(manifest, before, request.getfixturevalue(kind), held_out()):
        assert exit_.same >= share


def test_numbers_too_large_for_half_floats_are_an_error(manifest) -> None:
    graphs = []
    for graph in export().graphs:
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        divisors = [node.input[1] for node in model.graph.node if node.op_type == "Div"]
        for tensor in model.graph.initializer:
            if tensor.name in divisors and tensor.dims == [3, 1, 1]:  # the standard deviations
                tiny = numpy_helper.to_array(tensor) * 1e-9
                tensor.CopyFrom(numpy_helper.from_array(tiny, tensor.name))
        graphs.append(StageGraph(model))
    with pytest.raises(ExportError, match="too large for fp16"):
        quantize(manifest, graphs, tiny_dataset(), "fp16")


def test_other_images_are_refused(manifest, integers) -> None:
    before = Chain(export().graphs).run(held_out().pixels)
    other = replace(held_out(), targets=(held_out().targets + 1) % 10)
    with pytest.raises(ExportError, match="not the images that the bundle was made with"):
        agreement(manifest, before, integers, other)


def test_own_images_are_those_of_training(manifest) -> None:
    images = own_images(manifest, str(PARQUET))
    assert np.array_equal(images.held_out.pixels, held_out().pixels)
    assert len(images.train) == 400


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_command_writes_what_the_server_reads(manifest, tmp_path, capsys, precision) -> None:
    write_bundle(tmp_path / "fp32", manifest, export())
    out = tmp_path / precision
    arguments = ["--data", str(PARQUET), "--out", str(out), "--precision", precision]
    assert main(["--bundle", str(tmp_path / "fp32"), *arguments]) == 0
    made = read_manifest(out)
    assert (made.precision, made.version) == (precision, f"1-{precision}")
    images = held_out().pixels[:9].numpy()
    said = []
    for layout in ("native", "portable"):
        runtime, known = Runtime(out, made, layout=layout), {"image": images}
        for k in range(made.exits):
            output = runtime.run(k, known)
            known |= output.features
            said.append(output.probabilities)
    inputs, features = zip(*((stage.inputs, stage.features) for stage in made.stages), strict=True)
    pool = DevicePool(inputs, features, 9, Device("cpu"))
    device, slots = DeviceRuntime(out, made, pool, 16), pool.take(9)
    for slot, image in zip(slots, images, strict=True):
        pool.put(slot, image)
    said += [device.run(k, pool.gather(k, slots)).probabilities for k in range(made.exits)]
    native, portable, on_device = np.split(np.array(said), 3)
    assert np.allclose(native, portable, atol=1e-5)
    assert np.allclose(on_device, portable, atol=1e-5)
    assert "same class" in capsys.readouterr().out
    assert main(["--bundle", str(out), "--data", "x", "--out", str(tmp_path / "b")]) == 1
    assert "give the one in fp32" in capsys.readouterr().err


def test_the_manifest_changes_in_what_was_measured(manifest, integers) -> None:
    made = with_new_measurements(manifest, integers.export, version="2", precision="int8")
    kept = {"name", "labels", "input", "confidence", "held_out", "provenance", "format"}
    changed = {
        name for name in type(made).model_fields if getattr(made, name) != getattr(manifest, name)
    }
    assert not changed & kept
