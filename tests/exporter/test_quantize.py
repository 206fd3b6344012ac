from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from exporter.bundle import Naming, with_new_measurements, write_bundle
from exporter.errors import ExportError
from exporter.network.export import make_manifest
from exporter.quantize import Precision
from exporter.quantize.__main__ import main
from exporter.quantize.convert import (
    Agreement,
    Quantized,
    agreement,
    lost_accuracy,
    own_images,
    quantize,
)
from exporter.quantize.to_int8 import convert_to_int8
from exporter.recalibrate import own_files
from exporter.stages.graph import StageGraph, parameter_count
from exporter.stages.runner import Chain
from offramp.bundle.graphs import join
from offramp.bundle.manifest import Manifest, read_manifest
from serving.runtime.cpu import CpuRuntime
from serving.runtime.cuda.runtime import CudaRuntime
from serving.runtime.cuda.slots import CudaSlots, Device
from tests.exporter.exported import checkpoint, export, held_out
from tests.training.samples import PARQUET, tiny_dataset
from training.data.datasets import open_dataset


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    naming = Naming(name="tiny", version="1", dataset="cifar10-500")
    return make_manifest(checkpoint(), export(), naming, "max_softmax")


@pytest.fixture(scope="module")
def int8(manifest: Manifest) -> Quantized:
    return quantize(manifest, export().graphs, tiny_dataset(), "int8")


@pytest.fixture(scope="module")
def fp16(manifest: Manifest) -> Quantized:
    return quantize(manifest, export().graphs, tiny_dataset(), "fp16")


def test_all_inputs_of_convolutions_are_integers() -> None:
    whole = join([graph.model for graph in export().graphs])
    converted = convert_to_int8(whole, tiny_dataset().train.pixels[:64].numpy()).graph
    producers = {name: node.op_type for node in converted.node for name in node.output}
    convolutions = [node for node in converted.node if node.op_type == "Conv"]
    inputs = [producers[name] for node in convolutions for name in node.input]
    assert set(inputs) == {"DequantizeLinear"}
    assert {v.name for v in converted.output} == {v.name for v in whole.graph.output}


def test_products_of_integers_fit_in_16_bits_on_every_processor() -> None:
    whole = join([graph.model for graph in export().graphs])
    images = tiny_dataset().train.pixels[:64].numpy()
    converted = convert_to_int8(whole, images)
    weights = [numpy_helper.to_array(each) for each in converted.graph.initializer]
    largest = [
        int(np.abs(w.astype(int)).max()) for w in weights if w.dtype == np.int8 and w.ndim > 1
    ]
    assert largest
    assert 2 * 255 * max(largest) < 1 << 15
    name = whole.graph.output[-1].name
    integers, floats = (
        _run(converted, level, images, name)
        for level in (ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
                      ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    )  # fmt: skip
    assert np.abs(integers - floats).max() < 0.05


def test_an_activation_that_is_clipped_has_the_range_after_the_clip() -> None:
    """A convolution far above 6, a ReLU6 and a sum, as in networks for mobile phones."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    clipped (uint8[N, 8, 8, 3] image) => (float[N, 4, 8, 8] answer)
    <float[4, 3, 1, 1] weight = {0.01, 0.02, 0.3, 0.04, 0.5, 0.06, 0.7, 0.08, 0.9, 0.1, 0.02, 0.01},
     float low = {0.0}, float high = {6.0}>
    {
        floats = Cast <to = 1> (image)
        x = Transpose <perm = [0, 3, 1, 2]> (floats)
        wide = Conv (x, weight)
        one = Clip (wide, low, high)
        answer = Add (one, one)
    }"""
    model = onnx.parser.parse_model(text)
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    exact = _run(model, level, images, "answer")
    assert exact.max() == 12
    rounded = _run(convert_to_int8(model, images), level, images, "answer")
    assert np.abs(rounded - exact).max() < 1  # weights have 7 bits; without the clip it is 2


def _run(
    model: onnx.ModelProto, level: ort.GraphOptimizationLevel, images: NDArray[np.uint8], name: str
) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    graph = model.SerializeToString()
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    output: NDArray[np.float32] = session.run([name], {"image": images})[0]
    return output


def test_int8_stages_have_integer_features_and_the_same_flops(int8: Quantized) -> None:
    for after, before in zip(int8.export.graphs, export().graphs, strict=True):
        onnx.checker.check_model(after.model, full_check=True)
        assert {spec.dtype for spec in after.features} <= {"uint8"}
        assert [s.shape for s in after.features] == [s.shape for s in before.features]
        assert (after.flops, after.head_flops) == (before.flops, before.head_flops)
        # the temperature of each exit stays unquantised
        assert parameter_count(after.model) == parameter_count(before.model)
    assert int8.export.scored.confidence.shape == export().scored.confidence.shape


def test_fp16_stages_have_16_bit_features_and_the_same_flops(fp16: Quantized) -> None:
    for after, before in zip(fp16.export.graphs, export().graphs, strict=True):
        onnx.checker.check_model(after.model, full_check=True)
        assert {spec.dtype for spec in after.features} <= {"float16"}
        assert [s.shape for s in after.features] == [s.shape for s in before.features]
        assert (after.flops, after.head_flops) == (before.flops, before.head_flops)
        assert parameter_count(after.model) == parameter_count(before.model)


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.9), ("fp16", 0.98)])
def test_nearly_all_images_keep_their_class(
    manifest: Manifest, precision: str, share: float, request: pytest.FixtureRequest
) -> None:
    before = Chain(export().graphs).run(held_out().pixels)
    converted = cast("Quantized", request.getfixturevalue(precision))
    for exit_ in agreement(manifest, before, converted, held_out()):
        assert exit_.same >= share


def test_values_too_large_for_16_bit_floats_are_an_error(manifest: Manifest) -> None:
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


def test_images_that_the_bundle_was_not_made_with_are_refused(
    manifest: Manifest, int8: Quantized
) -> None:
    before = Chain(export().graphs).run(held_out().pixels)
    other = replace(held_out(), targets=(held_out().targets + 1) % 10)
    with pytest.raises(ExportError, match="not the images that the bundle was made with"):
        agreement(manifest, before, int8, other)


def test_an_exit_that_lost_more_than_a_point_of_accuracy_is_reported() -> None:
    exits = [Agreement(0.85, 0.845, 0.97), Agreement(0.88, 0.7248, 0.77), Agreement(0.8, 0.9, 0.8)]
    (warning,) = lost_accuracy(exits, "int8")
    assert warning.startswith("exit 2 is right on 72.48% of the held-out images in int8")
    assert "88.00% in fp32" in warning


def test_own_images_are_those_of_training(manifest: Manifest) -> None:
    images = own_images(manifest, str(PARQUET))
    assert np.array_equal(images.held_out.pixels, held_out().pixels)
    assert len(images.train) == 400


def test_what_is_left_out_of_own_images_is_named(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "train.parquet").symlink_to(PARQUET)
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    said: list[str] = []
    own_images(manifest, str(tmp_path), log=said.append)
    assert said[1:] == ["    notes.txt is beside parquet files, which are the data set"]


def test_a_bundle_of_version_0_1_keeps_its_random_split(manifest: Manifest) -> None:
    config = {**manifest.provenance.config}
    del config["held_out_split"]
    provenance = manifest.provenance.model_copy(update={"config": config})
    old = own_files(manifest.model_copy(update={"provenance": provenance}), str(PARQUET))
    split = open_dataset(str(PARQUET), 32, held_out=100, seed=0, split="random")
    assert old.fingerprint() == split.fingerprint() != tiny_dataset().fingerprint()


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_server_reads_the_bundle_that_the_command_writes(
    manifest: Manifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: Precision,
) -> None:
    write_bundle(tmp_path / "fp32", manifest, export())
    out = tmp_path / precision
    arguments = ["--data", str(PARQUET), "--out", str(out), "--precision", precision]
    assert main(["--bundle", str(tmp_path / "fp32"), *arguments]) == 0
    new = read_manifest(out)
    assert (new.precision, new.version) == (precision, f"1-{precision}")
    images = held_out().pixels[:9].numpy()
    outputs: list[NDArray[np.float32]] = []
    for layout in ("native", "portable"):
        runtime, known = CpuRuntime(out, new, layout=layout), {"image": images}
        for k in range(new.exits):
            output = runtime.run(k, known)
            known |= output.features
            assert output.probabilities is not None
            outputs.append(output.probabilities)
    inputs, features = zip(*((stage.inputs, stage.features) for stage in new.stages), strict=True)
    pool = CudaSlots(inputs, features, 9, Device("cpu"))
    device, slots = CudaRuntime(out, new, pool, 16), pool.take(9)
    for slot, image in zip(slots, images, strict=True):
        pool.put(slot, image)
    for k in range(new.exits):
        probabilities = device.run(k, pool.gather(k, slots)).probabilities
        assert probabilities is not None
        outputs.append(probabilities)
    native, portable, on_device = np.split(np.array(outputs), 3)
    assert np.allclose(native, portable, atol=1e-5)
    assert np.allclose(on_device, portable, atol=1e-5)
    assert "same class" in capsys.readouterr().out
    assert main(["--bundle", str(out), "--data", "x", "--out", str(tmp_path / "b")]) == 1
    assert "give the one in fp32" in capsys.readouterr().err


def test_only_measurements_change_in_the_manifest(manifest: Manifest, int8: Quantized) -> None:
    new = with_new_measurements(manifest, int8.export, version="2", precision="int8")
    kept = {"name", "labels", "input", "confidence", "held_out", "provenance", "format"}
    changed = {
        name for name in type(new).model_fields if getattr(new, name) != getattr(manifest, name)
    }
    assert not changed & kept
