from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.cascade.network import read_network
from exporter.cascade.original import Kind, Normalisation, Original, check_equal, kind_of
from exporter.errors import ExportError, VerificationError
from tests.exporter.cascade.classifiers import MEAN, STD, Classifier, pictures

LOGITS = np.array([[3.0, -1.0, 0.5], [0.1, 0.2, 4.0]], np.float32)
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]], np.float32)


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


def test_an_output_must_be_chosen_by_its_width(tmp_path: Path) -> None:
    classifier = replace(Classifier(), batch=2)
    model = classifier.model()
    model.graph.output.append(model.graph.output[0])
    model.graph.output[1].name = model.graph.node[-2].output[0]
    model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 8
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    network = read_network(tmp_path / "b.onnx")
    assert Original(network, 24, Normalisation(MEAN, STD), 3).output == "answer"
    with pytest.raises(ExportError, match="answers with 8 classes, and there are 4 labels"):
        Original(network, 24, Normalisation(MEAN, STD), 4)
