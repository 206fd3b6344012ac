from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporter.cascade.networks.network import read_network
from exporter.cascade.networks.original import (
    Kind,
    Normalisation,
    Original,
    check_alone,
    check_equal,
    kind_of,
)
from exporter.errors import ExportError, VerificationError
from tests.exporter.cascade.classifiers import MEAN, STD, Classifier, pictures

LOGITS = np.array([[3.0, -1.0, 0.5], [0.1, 0.2, 4.0]], np.float32)
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]], np.float32)


def opened(model: onnx.ModelProto, tmp_path: Path, labels: int = 3) -> Original:
    onnx.save(model, tmp_path / "a.onnx")
    return Original(read_network(tmp_path / "a.onnx"), 24, Normalisation(MEAN, STD), labels)


def original(classifier: Classifier, tmp_path: Path, labels: int = 3) -> Original:
    network = read_network(classifier.write(tmp_path / "a.onnx"))
    normalisation = None if classifier.dtype == "uint8" else Normalisation(MEAN, STD)
    return Original(network, classifier.size, normalisation, labels)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_network_runs_on_batches_of_its_own_size(batch: int | str, tmp_path: Path) -> None:
    classifier = Classifier(batch=batch, softmax=True)
    found = original(classifier, tmp_path).outputs(pictures(7, 24)[0])
    assert np.abs(found - classifier.probabilities(pictures(7, 24)[0])).max() < 1e-6


def test_another_number_of_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="answers with 3 classes, and there are 5 labels"):
        original(Classifier(), tmp_path, labels=5)


def test_a_network_that_cannot_run_is_refused(tmp_path: Path) -> None:
    classifier = Classifier()
    network = read_network(classifier.write(tmp_path / "a.onnx"))
    with pytest.raises(ExportError, match="cannot be run by ONNX Runtime on images of 32 pixels"):
        Original(network, 32, Normalisation(MEAN, STD), 3)


@pytest.mark.parametrize(
    ("outputs", "stated", "kind"),
    [
        (LOGITS, None, "logits"),
        (LOGITS, "logits", "logits"),
        (PROBABILITIES, None, "probabilities"),
        (PROBABILITIES, "probabilities", "probabilities"),
        (PROBABILITIES / 2, "logits", "logits"),
    ],
)
def test_logits_and_probabilities_are_recognised(
    outputs: NDArray[np.float32], stated: Kind | None, kind: Kind
) -> None:
    assert kind_of("a.onnx", outputs, stated) == kind


@pytest.mark.parametrize(
    ("outputs", "stated", "reason"),
    [
        (LOGITS, "probabilities", "gives logits, not probabilities: its outputs sum to 2.5 to 4.3"),
        (PROBABILITIES, "logits", "gives probabilities, not logits"),
        (PROBABILITIES / 2, None, "as of a sigmoid"),
        (PROBABILITIES * np.float32(np.nan), None, "not finite"),
    ],
)
def test_outputs_of_another_kind_are_refused(
    outputs: NDArray[np.float32], stated: Kind | None, reason: str
) -> None:
    with pytest.raises(ExportError, match=reason):
        kind_of("a.onnx", outputs, stated)


def test_other_answers_are_refused() -> None:
    assert check_equal("a.onnx", PROBABILITIES, PROBABILITIES + np.float32(5e-5)) < 1e-4
    for other in (PROBABILITIES + np.float32(2e-4), PROBABILITIES * np.float32(np.nan)):
        with pytest.raises(VerificationError, match="its stage gives other answers than"):
            check_equal("a.onnx", other, PROBABILITIES)


def test_answers_that_depend_on_the_batch_are_refused() -> None:
    check_alone("a.onnx", PROBABILITIES, PROBABILITIES[:1] + np.float32(1e-3))
    with pytest.raises(VerificationError, match="depends on the other images of the batch"):
        check_alone("a.onnx", PROBABILITIES, PROBABILITIES[:1] + np.float32(0.1))


def test_an_output_must_be_chosen_by_its_width(tmp_path: Path) -> None:
    model = replace(Classifier(), batch=2).model()
    add_output(model, model.graph.node[-2].output[0], 8)
    assert opened(model, tmp_path).output == "answer"
    with pytest.raises(ExportError, match="answers with 8 classes, and there are 4 labels"):
        opened(model, tmp_path, labels=4)


def add_output(model: onnx.ModelProto, name: str, width: int) -> None:
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]))


def test_of_logits_and_their_softmax_the_logits_are_chosen(tmp_path: Path) -> None:
    model = Classifier(softmax=True).model()
    add_output(model, model.graph.node[-2].output[0], 3)
    assert opened(model, tmp_path).output == model.graph.node[-2].output[0]
    model.graph.node.append(helper.make_node("Identity", ["answer"], ["same"]))
    add_output(model, "same", 3)
    with pytest.raises(ExportError, match=r"has 2 outputs of 3 numbers .*extract_model"):
        opened(model, tmp_path)


def test_an_output_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    """Converters of other frameworks end classifiers with a map from labels to probabilities."""
    model = Classifier(softmax=True).model()
    node = helper.make_node(
        "ZipMap", ["answer"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
    )
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, value))
    model.graph.output[0].CopyFrom(helper.make_value_info("map", kind))
    with pytest.raises(ExportError, match=r"only map \(a sequence or map; leave the tensor before"):
        opened(model, tmp_path)


def test_a_batch_that_the_file_states_wrongly_is_found(tmp_path: Path) -> None:
    """A traced network can have the batch of its example in a Reshape."""
    model = Classifier(batch=1, flatten="Reshape").model()
    assert opened(Classifier().model(), tmp_path).batch is None
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    found = opened(model, tmp_path)
    assert found.batch == 1
    assert found.outputs(pictures(5, 24)[0]).shape == (5, 3)


@pytest.mark.parametrize(
    ("mean", "std", "operators"),
    [
        (MEAN, STD, ["Div", "Sub", "Div"]),
        ((0, 0, 0), (1, 1, 1), ["Div"]),
        ((0.5, 0.5, 0.5), (1 / 255,) * 3, ["Sub"]),
        ((0, 0, 0), (1 / 255,) * 3, []),
    ],
)
def test_pixels_are_normalised_as_by_torchvision(
    mean: tuple[float, float, float], std: tuple[float, float, float], operators: list[str]
) -> None:
    normalisation = Normalisation(mean, std)
    assert [operator for operator, _ in normalisation.steps()] == operators
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)
    expected = (pixels.astype(np.float32) / 255 - np.array(mean, np.float32)) / np.array(
        std, np.float32
    )
    found = normalisation.apply(pixels)
    assert np.array_equal(found, expected) or std == (1 / 255,) * 3
    assert np.abs(found - expected).max() < 1e-4
