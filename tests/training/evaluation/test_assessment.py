import numpy as np
import pytest
import torch

from tests.training.samples import (
    PARQUET,
    finished_progress,
    tiny_progress,
)
from training.errors import CheckpointError
from training.evaluation.assessment import assess, own_dataset
from training.evaluation.budgeted import direct_optimum
from training.evaluation.evaluate import apply_thresholds, exits_taken
from training.evaluation.labelled_logits import (
    LabelledLogits,
    score,
    temperatures_of,
)
from training.evaluation.thresholds import best_within

FLOPS = np.array([10.0, 40.0, 100.0])


def drawn(images: int, seed: int) -> LabelledLogits:
    """Draw logits of three exits; deeper ones are better, and all need a temperature of 2."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 4, images)
    signal = np.array([1.0, 1.6, 2.2])[:, None, None]
    # signal * observed are the logits by Bayes' rule, up to a constant
    observed = signal * np.eye(4)[targets] + rng.normal(0, 1, (3, images, 4))
    logits = 2 * signal * observed
    return LabelledLogits(torch.from_numpy(logits).float(), torch.from_numpy(targets))


@pytest.mark.parametrize("images", [1, 2, 5, 40])
def test_few_images_are_assessed(images: int) -> None:
    held_out = drawn(images, 0)
    best = held_out.logits[-1].argmax(-1)
    for targets in (held_out.targets, best, (best + 1) % 4):
        assessment = assess(LabelledLogits(held_out.logits, targets), None, FLOPS)
        assert [each.images for each in assessment.sets] == [images]
    predicted = LabelledLogits(held_out.logits, best, pseudo=True)
    (assessed,) = assess(predicted, None, FLOPS).sets
    for name, curve in assessed.curves.items():
        assert np.array_equal(curve.accuracy, assessed.agreement[name].accuracy)


def test_images_of_another_split_are_rejected() -> None:
    assert len(own_dataset(finished_progress(), str(PARQUET)).held_out) == 100
    with pytest.raises(CheckpointError, match=r"--data: .* is not the data of the checkpoint"):
        own_dataset(tiny_progress(seed=1), str(PARQUET))


def test_temperatures_reduce_the_calibration_error_and_do_not_depend_on_test_images() -> None:
    held_out, test = drawn(2000, 0), drawn(500, 1)
    both = assess(held_out, test, FLOPS)
    alone = assess(held_out, None, FLOPS)
    assert [one.name for one in both.sets] == ["held-out", "test"]
    assert [one.images for one in both.sets] == [2000, 500]
    assert [one.name for one in alone.sets] == ["held-out"]
    assert both.temperatures == alone.temperatures == temperatures_of(held_out)
    assert both.temperatures == pytest.approx((2, 2, 2), rel=0.1)
    for one in both.sets:
        for quality in one.exits:
            assert quality.calibrated.error < quality.raw.error
            assert quality.interval[0] < quality.accuracy < quality.interval[1]
            assert quality.auroc is not None
            assert 0.5 < quality.auroc < 1


def test_results_of_a_budget_are_those_of_its_thresholds() -> None:
    held_out, test = drawn(2000, 0), drawn(500, 1)
    temperatures = temperatures_of(held_out)
    solved = best_within(direct_optimum(score(held_out, temperatures, FLOPS)), 50.0)
    measured = apply_thresholds(score(test, temperatures, FLOPS), np.array(solved.thresholds))
    on_held_out, on_test = (one.budgets[0.5] for one in assess(held_out, test, FLOPS).sets)
    assert (on_held_out.mean_flops, on_held_out.shares) == (solved.mean_flops, solved.shares)
    assert on_held_out.accuracy <= solved.accuracy
    assert (on_test.mean_flops, on_test.accuracy) == (measured.mean_flops, measured.accuracy)
    assert on_test.shares == measured.shares


def test_agreement_is_that_of_the_answers_of_the_same_thresholds() -> None:
    held_out, test = drawn(2000, 0), drawn(2000, 1)
    on_held_out, on_test = assess(held_out, test, FLOPS).sets
    scored, predicted = score(test, temperatures_of(held_out), FLOPS), test.logits.argmax(-1)
    for share, budget in on_test.budgets.items():
        taken = exits_taken(scored.confidence, np.array(budget.thresholds))
        answers = predicted[taken, np.arange(2000)]
        assert budget.agreement == pytest.approx(float((answers == predicted[-1]).float().mean()))
        assert on_held_out.budgets[share].agreement == pytest.approx(budget.agreement, abs=0.03)
    for name, curve in on_test.agreement.items():
        assert np.array_equal(curve.flops, on_test.curves[name].flops)
        assert curve.accuracy[-1] == 1, "full depth agrees with itself"


def test_full_depth_costs_only_the_part_that_starts_again_from_the_image() -> None:
    held_out = drawn(400, 0)
    scored = score(held_out, (1.0, 1.0, 1.0), FLOPS, starts=(0, 2))
    assert scored.full_flops == 60
    assert apply_thresholds(scored, np.array([2.0, 0.0, 0.0])).mean_flops == 40
    (assessed,) = assess(held_out, None, FLOPS, starts=(0, 2)).sets
    assert all(budget.mean_flops <= share * 60 for share, budget in assessed.budgets.items())
