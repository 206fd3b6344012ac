from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from offramp import Classifier
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.data.errors import DatasetError
from offramp.evaluation.evaluator import EvaluationError, Evaluator
from serving.errors import BudgetTooLowError, ParameterError, UnknownBudgetError
from tests.offramp.pictures import DAMAGED, files, write_parquet


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Iterator[Classifier]:
    with Classifier.open(bundle, threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def labelled(
    classifier: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[bytes], list[str]]:
    """Images with the labels of the whole network, but for every tenth."""
    images, labels = files(200, 1), list(classifier.manifest.labels)
    found = [answer.label for answer in classifier.classify(images, "full")]
    given = [labels[0] if i % 10 == 0 else label for i, label in enumerate(found)]
    path = tmp_path_factory.mktemp("data") / "test.parquet"
    return write_parquet(path, images, label=given), images, given


def test_budgets_have_the_figures_of_their_answers(
    classifier: Classifier, labelled: tuple[Path, list[bytes], list[str]], manifest: Manifest
) -> None:
    path, images, labels = labelled
    evaluation = classifier.evaluate(path)
    assert evaluation.images == len(images)
    assert evaluation.skipped == ()
    assert [budget.budget for budget in evaluation.budgets] == list(manifest.budgets)
    for budget in evaluation.budgets:
        answers = classifier.classify(images, budget.budget)
        right = [answer.label == label for answer, label in zip(answers, labels, strict=True)]
        exits = np.bincount([answer.exit - 1 for answer in answers], minlength=manifest.exits)
        assert budget.accuracy.value == pytest.approx(np.mean(right))
        assert budget.mean_flops.value == pytest.approx(np.mean([a.flops for a in answers]))
        assert [share.value for share in budget.exit_shares] == pytest.approx(exits / len(images))
        assert budget.accuracy.stated == manifest.budgets[budget.budget].accuracy
        assert budget.accuracy.value in budget.accuracy.interval


def test_numeric_budgets_are_compared_with_the_curve(
    classifier: Classifier, labelled: tuple[Path, list[bytes], list[str]], manifest: Manifest
) -> None:
    (budget,) = classifier.evaluate(labelled[0], ["60%"]).budgets
    assert budget.budget == "60%"
    assert budget.mean_flops.stated in [point.mean_flops for point in manifest.curve]


def test_a_figure_outside_the_predicted_interval_does_not_agree(
    classifier: Classifier, tmp_path: Path
) -> None:
    images = files(100, 2)
    answers = classifier.classify(images, "full")
    labels = classifier.manifest.labels
    wrong = [labels[(answer.index + 1) % len(labels)] for answer in answers]
    evaluation = classifier.evaluate(write_parquet(tmp_path / "a.parquet", images, label=wrong))
    full = evaluation.budgets[-1]
    assert full.accuracy.value == 0
    assert not full.accuracy.agrees
    assert not full.agrees
    assert full.mean_flops.agrees


def test_damaged_images_are_listed_and_not_counted(classifier: Classifier, tmp_path: Path) -> None:
    label = classifier.manifest.labels[0]
    path = write_parquet(tmp_path / "a.parquet", [*files(5), DAMAGED], label=[label] * 6)
    evaluation = classifier.evaluate(path)
    assert evaluation.images == 5
    assert [image.name for image in evaluation.skipped] == [f"{path}#5"]
    assert "cannot be decoded" in evaluation.skipped[0].reason


def test_nothing_to_evaluate_is_an_error(classifier: Classifier, tmp_path: Path) -> None:
    label = classifier.manifest.labels[0]
    path = write_parquet(tmp_path / "a.parquet", [DAMAGED], label=[label])
    with pytest.raises(EvaluationError, match="cannot be decoded"):
        classifier.evaluate(path)
    with pytest.raises(DatasetError):
        classifier.evaluate(tmp_path / "nothing")


def test_a_promise_has_no_accuracy_to_compare_with(promise_bundle: Path) -> None:
    promising = read_manifest(promise_bundle)
    with pytest.raises(ParameterError, match="safe is the name of a promise"):
        Evaluator(promising, ["safe"])
    assert Evaluator(promising).policy.explain


@pytest.mark.parametrize(
    ("budget", "error"), [("cheap", UnknownBudgetError), ("1", BudgetTooLowError)]
)
def test_unknown_budgets_are_refused_before_the_data_is_read(
    classifier: Classifier, budget: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        classifier.evaluate("no/such/folder", [budget])


def test_wrong_rejects_are_those_of_the_answers(
    reject_bundle: Path, labelled: tuple[Path, list[bytes], list[str]]
) -> None:
    path, images, _ = labelled
    with Classifier.open(reject_bundle, threads=2) as classifier:
        for budget in classifier.evaluate(path).budgets:
            answers = classifier.classify(images, budget.budget, reject=True)
            assert budget.rejected is not None
            assert budget.rejected.value == pytest.approx(np.mean([a.reject for a in answers]))
            assert budget.rejected.stated.value == 0.5
