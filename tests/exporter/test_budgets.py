from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.budgets import CURVE_POINTS, estimate_mean, estimate_share, solve_budgets
from tests.training.evaluation.test_thresholds import overconfident
from training.evaluation.evaluate import apply_thresholds
from training.evaluation.thresholds import candidates


@given(st.integers(20, 10_000), st.floats(0, 1))
def test_the_interval_of_a_share_contains_it_and_lies_in_0_to_1(images: int, share: float) -> None:
    estimate = estimate_share(share, images)
    assert 0 <= estimate.low <= share <= estimate.high <= 1


@pytest.mark.parametrize("share", [0.0, 0.002, 0.3, 0.95])
def test_shares_of_new_samples_fall_into_the_interval(share: float) -> None:
    rng = np.random.default_rng(0)
    images, missed = 2000, 0
    for _ in range(1500):
        old, new = rng.binomial(images, share, 2) / images
        missed += not estimate_share(float(old), images).within(float(new))
    assert missed <= 8, "0.1 % of 1,500 is 1.5"


def test_means_of_new_samples_fall_into_the_interval() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(1500):
        old, new = rng.choice([10.0, 50.0, 100.0], (2, 500), p=[0.6, 0.3, 0.1])
        missed += not estimate_mean(old.mean(), old.std(), 500).within(new.mean())
    assert missed <= 8


def test_named_budgets_stay_within_their_flops_and_full_takes_the_last_exit() -> None:
    scored = overconfident(2000, 4)
    budgets, curve = solve_budgets(scored)
    assert list(budgets) == ["low", "medium", "high", "full"]
    for name, share in (("low", 0.25), ("medium", 0.5), ("high", 0.75)):
        assert budgets[name].mean_flops.value <= share * scored.flops[-1]
    accuracies = [budgets[name].accuracy.value for name in ("low", "medium", "high")]
    assert accuracies[0] < accuracies[2]
    assert budgets["full"].exit_shares[-1].value == 1
    assert 10 < len(curve) <= CURVE_POINTS
    for point in curve:
        again = apply_thresholds(scored, np.array(point.thresholds))
        assert again.mean_flops == pytest.approx(point.mean_flops.value)
        assert again.accuracy == pytest.approx(point.accuracy.value, abs=0.05)


@pytest.mark.parametrize("images", [1, 2, 3, 5, 9, 40, 200])
def test_budgets_are_solved_on_few_images(images: int) -> None:
    scored = overconfident(images, 4)
    budgets, curve = solve_budgets(scored)
    assert set(budgets) == {"low", "medium", "high", "full"}
    assert len(curve) >= 1
    for right in (np.zeros_like(scored.right), np.ones_like(scored.right)):
        assert solve_budgets(replace(scored, right=right))[0]["full"].accuracy.value == right[-1, 0]


def test_the_curve_starts_at_the_cheapest_and_ends_at_the_best_tradeoff() -> None:
    scored = overconfident(2000, 3)
    _, curve = solve_budgets(scored)
    found = candidates(scored)
    assert curve[0].mean_flops.value == min(tradeoff.mean_flops for tradeoff in found)
    best = max(found, key=lambda tradeoff: tradeoff.accuracy)
    assert curve[-1].thresholds == best.thresholds


def test_stated_accuracy_equals_that_of_new_images() -> None:
    """Accuracy on the images that thresholds were solved on is some points higher."""
    in_sample, stated, true = [], [], []
    new = overconfident(100_000, 4, seed=99)
    for seed in range(8):
        scored = overconfident(200, 4, seed=seed)
        point = solve_budgets(scored)[0]["medium"]
        thresholds = np.array(point.thresholds)
        in_sample.append(apply_thresholds(scored, thresholds).accuracy)
        stated.append(point.accuracy.value)
        true.append(apply_thresholds(new, thresholds).accuracy)
    # 1,600 images in all: their own scatter is 0.012
    assert np.mean(in_sample) - np.mean(stated) > 0.01
    assert abs(np.mean(stated) - np.mean(true)) < 0.036
