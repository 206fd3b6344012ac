from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.budgets import CURVE_POINTS, NAMED_SHARES, solve_budgets
from tests.training.evaluation.test_thresholds import overconfident
from training.evaluation.evaluate import Scored, apply_thresholds
from training.evaluation.thresholds import each_exit

DRAWS = 8


def two_classes(images: int, seed: int) -> tuple[Scored, NDArray[np.bool_]]:
    """Return four exits that answer one of two classes, and which of them agree with the last."""
    scored = replace(overconfident(images, 4, seed), heads=np.array([1.0, 2.0, 2.0, 30.0]))
    return scored, scored.right == scored.right[-1]


def test_named_budgets_spend_what_they_can_and_full_takes_the_last_exit() -> None:
    scored, agrees = two_classes(2000, 0)
    budgets, curve = solve_budgets(scored, agrees)
    assert list(budgets) == ["low", "medium", "high", "full"]
    for name, share in NAMED_SHARES.items():
        assert (share - 0.01) < budgets[name].mean_flops.value / scored.full_flops <= share
        assert budgets[name] in curve
    accuracies = [budgets[name].accuracy.value for name in ("low", "medium", "high")]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] < accuracies[2]
    assert (budgets["full"].exit_shares[-1].value, budgets["full"].risk) == (1, 0)
    assert 10 < len(curve) <= CURVE_POINTS
    for point in curve:
        again = apply_thresholds(scored, np.array(point.thresholds))
        assert again.mean_flops == pytest.approx(point.mean_flops.value)
        assert again.accuracy == pytest.approx(point.accuracy.value, abs=0.05)


@settings(max_examples=8)
@given(st.integers(1, 400), st.integers(0, 100), st.sampled_from(["agreement", "accuracy"]))
def test_a_dearer_point_is_never_stated_worse(images: int, seed: int, solved_for: str) -> None:
    scored, agrees = two_classes(images, seed)
    budgets, curve = solve_budgets(scored, agrees, solved_for)  # type: ignore[arg-type]
    flops = [point.mean_flops.value for point in curve]
    accuracies = [point.accuracy.value for point in curve]
    agreements = [point.agreement.value for point in curve if point.agreement]
    assert flops == sorted(set(flops))
    assert accuracies == sorted(accuracies)
    assert agreements == sorted(agreements)
    assert len(agreements) == len(curve)
    for name, share in NAMED_SHARES.items():
        affordable = [each for each in curve if each.mean_flops.value <= share * scored.full_flops]
        assert budgets[name] == (affordable or curve)[-1 if affordable else 0]


def test_the_curve_starts_at_the_first_exit_and_ends_at_full_depth() -> None:
    scored, agrees = two_classes(2000, 0)
    scored = replace(scored, right=agrees)
    budgets, curve = solve_budgets(scored, agrees)
    full = each_exit(scored)[-1]
    assert curve[0].exit_shares[0].value == 1
    assert curve[0].mean_flops.value == pytest.approx(scored.flops[0])
    assert curve[-1] == budgets["full"]
    assert curve[-1].thresholds == full.thresholds


@pytest.mark.parametrize("images", [1, 2, 3, 5, 9, 40, 200])
def test_budgets_are_solved_on_few_images(images: int) -> None:
    scored = overconfident(images, 4)
    budgets, curve = solve_budgets(scored)
    assert set(budgets) == {"low", "medium", "high", "full"}
    assert len(curve) >= 1
    for right in (np.zeros_like(scored.right), np.ones_like(scored.right)):
        assert solve_budgets(replace(scored, right=right))[0]["full"].accuracy.value == right[-1, 0]


def test_a_network_with_one_exit_has_one_point() -> None:
    scored = overconfident(50, 1)
    budgets, curve = solve_budgets(scored, np.ones_like(scored.right))
    assert curve == (budgets["full"],)
    assert budgets["low"] == budgets["full"]


def test_where_the_first_exit_is_dear_the_low_budget_leaves_there() -> None:
    scored = replace(overconfident(500, 3), flops=np.array([40.0, 70.0, 100.0]))
    low = solve_budgets(scored)[0]["low"]
    assert low.exit_shares[0].value == 1
    assert low.mean_flops.value == 40


@pytest.mark.parametrize("images", [200, 2000])
def test_stated_figures_equal_those_of_new_images(images: int) -> None:
    """On the images that thresholds were solved on, they would be higher."""
    stated, true = [], []
    new, agreeing = two_classes(50_000, 99)
    for seed in range(1600 // images or 1):
        scored, agrees = two_classes(images, seed)
        point = solve_budgets(scored, agrees)[0]["medium"]
        thresholds = np.array(point.thresholds)
        assert point.agreement is not None
        stated.append([point.accuracy.value, point.agreement.value])
        labels = (new, replace(new, right=agreeing))
        true.append([apply_thresholds(each, thresholds).accuracy for each in labels])
    # 1,600 images in all: their own scatter is 0.012
    assert np.mean(stated, axis=0) == pytest.approx(np.mean(true, axis=0), abs=0.036)


@pytest.mark.parametrize("images", [40, 80, 300])
def test_no_budget_is_worse_than_its_own_exit_of_equal_cost(images: int) -> None:
    """With few images, thresholds that were solved one by one would be worse than one exit."""
    new, agreeing = two_classes(20_000, 98)
    gains = []
    for seed in range(DRAWS):
        scored, agrees = two_classes(images, seed)
        _, curve = solve_budgets(scored, agrees)
        for exit_ in each_exit(replace(new, right=agreeing)):
            point = [each for each in curve if each.mean_flops.value <= exit_.mean_flops * 1.001][
                -1
            ]
            found = apply_thresholds(replace(new, right=agreeing), np.array(point.thresholds))
            gains.append(found.accuracy - exit_.accuracy)
    by_exit = np.reshape(gains, (DRAWS, -1)).mean(axis=0)
    assert (by_exit > -0.005).all(), by_exit
