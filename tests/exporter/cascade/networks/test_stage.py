from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.cascade.networks.network import read_network
from exporter.cascade.networks.original import Kind, Normalisation
from exporter.cascade.networks.reduction import reduce_images
from exporter.cascade.networks.stage import ImageForm, Reading, stage_of
from exporter.stages.graph import StageGraph, set_temperature
from exporter.stages.runner import Chain
from offramp.bundle.values import Confidence
from tests.exporter.cascade.classifiers import MEAN, STD, Classifier, pictures

FORM = ImageForm(32, "bicubic")
ORDER = [2, 0, 1]


def stage(
    classifier: Classifier,
    path: Path,
    kind: Kind | None = None,
    confidence: Confidence = "max_softmax",
) -> StageGraph:
    network = read_network(classifier.write(path / "a.onnx"))
    normalisation = None if classifier.dtype == "uint8" else Normalisation(MEAN, STD)
    kind = kind or ("probabilities" if classifier.softmax else "logits")
    reading = Reading(classifier.size, normalisation, "answer", kind, ORDER, confidence)
    return stage_of(network, reading, FORM)


@pytest.mark.parametrize(
    "classifier",
    [
        Classifier(),
        Classifier(size=32),
        Classifier(size=32, layout="nhwc"),
        Classifier(layout="nhwc", opset=20),
        Classifier(dtype="uint8", layout="nhwc"),
        Classifier(dtype="uint8", layout="nhwc", size=32),
        Classifier(dtype="float16", opset=13),
        Classifier(dynamic_size=True),
        Classifier(batch=1, flatten="Reshape"),
        Classifier(batch=4, flatten="Reshape", softmax=True),
        Classifier(softmax=True),
    ],
)
def test_a_stage_gives_the_answers_of_its_network(classifier: Classifier, tmp_path: Path) -> None:
    pixels, _ = pictures(9, 32)
    graph = stage(classifier, tmp_path)
    assert [(spec.dtype, spec.shape) for spec in graph.inputs] == [("uint8", (32, 32, 3))]
    assert graph.features == ()
    found = Chain([graph]).run(pixels)
    expected = classifier.probabilities(reduce_images(pixels, classifier.size, FORM.filter))
    tolerance = 2e-3 if classifier.dtype == "float16" else 1e-5
    assert np.abs(found.probabilities[0] - expected[:, ORDER]).max() < tolerance
    assert np.array_equal(found.confidence[0], found.probabilities[0].max(axis=1))


def test_the_softmax_of_the_network_is_removed(tmp_path: Path) -> None:
    graph = stage(Classifier(softmax=True), tmp_path)
    assert [n.op_type for n in graph.model.graph.node].count("Softmax") == 1
    assert "Log" not in {n.op_type for n in graph.model.graph.node}


def test_probabilities_without_a_softmax_at_the_end_get_a_logarithm(tmp_path: Path) -> None:
    classifier = Classifier(softmax=True)
    model = classifier.model()
    model.graph.node[-1].output[0] = "early"
    model.graph.node.append(helper.make_node("Identity", ["early"], ["answer"]))
    onnx.save(model, tmp_path / "b.onnx")
    network = read_network(tmp_path / "b.onnx")
    normalisation = Normalisation(MEAN, STD)
    reading = Reading(24, normalisation, "answer", "probabilities", ORDER, "max_softmax")
    pixels, _ = pictures(5, 32)
    graph = stage_of(network, reading, FORM)
    assert "Log" in {node.op_type for node in graph.model.graph.node}
    expected = classifier.probabilities(reduce_images(pixels, 24, FORM.filter))
    found = Chain([graph]).run(pixels).probabilities[0]
    assert np.abs(found - expected[:, ORDER]).max() < 1e-5


def test_the_temperature_divides_the_logits(tmp_path: Path) -> None:
    classifier, (pixels, _) = Classifier(size=32), pictures(5, 32)
    graph = stage(classifier, tmp_path)
    set_temperature(graph.model, 2.0)
    root = np.sqrt(classifier.probabilities(pixels)[:, ORDER])
    found = Chain([graph]).run(pixels).probabilities[0]
    assert np.abs(found - root / root.sum(axis=1, keepdims=True)).max() < 1e-5


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("confidence", ["margin", "negentropy"])
def test_other_confidences(confidence: Confidence, opset: int, tmp_path: Path) -> None:
    pixels, _ = pictures(9, 32)
    found = Chain([stage(Classifier(opset=opset), tmp_path, confidence=confidence)]).run(pixels)
    p = np.sort(found.probabilities[0], axis=1)
    expected = (
        p[:, 2] - p[:, 1] if confidence == "margin" else 1 + (p * np.log(p)).sum(axis=1) / np.log(3)
    )
    assert np.abs(found.confidence[0] - expected).max() < 1e-5


def test_the_reduction_costs_no_flops_and_no_parameters(tmp_path: Path) -> None:
    small, large = stage(Classifier(), tmp_path), stage(Classifier(size=32), tmp_path)
    assert (small.flops, large.flops) == (12 * 12 * 8 * 27 + 24, 16 * 16 * 8 * 27 + 24)
    assert small.head_flops == small.flops


def test_names_of_the_network_do_not_meet_those_of_the_stage(tmp_path: Path) -> None:
    classifier = Classifier()
    model = classifier.model()
    names = {"matrix": "temperature", "kernel": "image_reduction", "photo": "image"}
    names |= {"value_0": "temperature_", "value_1": "confidence"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.initializer, *model.graph.input):
        value.name = names.get(value.name, value.name)
    onnx.save(model, tmp_path / "b.onnx")
    reading = Reading(24, Normalisation(MEAN, STD), "answer", "logits", ORDER, "max_softmax")
    graph = stage_of(read_network(tmp_path / "b.onnx"), reading, FORM)
    assert graph.flops == stage(classifier, tmp_path).flops
    set_temperature(graph.model, 1.5)
    (weight,) = (w for w in graph.model.graph.initializer if w.name == "temperature")
    assert numpy_helper.to_array(weight) == np.float32(1.5)


def test_the_stage_of_a_network_in_other_words_is_the_same(tmp_path: Path) -> None:
    """Weights among the inputs, as old exporters write them, are not inputs."""
    classifier = Classifier()
    model = classifier.model()
    for weight in model.graph.initializer:
        kind, dims = weight.data_type, list(weight.dims)
        model.graph.input.append(helper.make_tensor_value_info(weight.name, kind, dims))
    onnx.save(model, tmp_path / "b.onnx")
    reading = Reading(24, Normalisation(MEAN, STD), "answer", "logits", ORDER, "max_softmax")
    other = stage_of(read_network(tmp_path / "b.onnx"), reading, FORM)
    pixels, _ = pictures(3, 32)
    same = stage(replace(classifier), tmp_path)
    found, expected = (Chain([each]).run(pixels).probabilities for each in (other, same))
    assert np.array_equal(found, expected)
