from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.budgets.folds import BUDGETS, WAYS, outcomes
from benchmarks.budgets.population import SCORERS, Population
from benchmarks.budgets.scorers import COLUMNS, figures


def population(images: int) -> Population:
    """Return three exits for five classes, later ones with less noise."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 5, images)
    noise = np.array([1.5, 1.0, 0.6])[:, None, None] * rng.normal(size=(3, images, 5))
    powers = np.exp(3 * np.eye(5)[targets] + noise)
    probabilities = (powers / powers.sum(axis=2, keepdims=True)).astype(np.float32)
    return Population(probabilities, targets, np.array([10.0, 40.0, 100.0]), np.ones(3))


@pytest.mark.parametrize("way", ["path for agreement", "path, learned scorer", "path, ensemble"])
def test_each_budget_is_spent_and_is_right_as_often_as_its_exits(way: str) -> None:
    images = population(300)
    curve = outcomes(images, *WAYS[way]).curve(np.full(300, 1 / 300, np.float32))
    inside = (curve.flops > 0.2) & (curve.flops < 0.9)
    assert curve.flops[inside] == pytest.approx(BUDGETS[inside], abs=0.05)
    right = (images.probabilities.argmax(axis=2) == images.targets).mean(axis=1)
    assert curve.accuracy[0] == pytest.approx(right[0], abs=0.05)
    assert curve.accuracy[-1] == pytest.approx(right[-1], abs=0.02)


def test_a_scorer_reads_former_exits_only_if_it_has_to() -> None:
    images = population(200)
    changed = replace(images, probabilities=images.probabilities.copy())
    changed.probabilities[0] = 0.2
    rows = np.arange(100)
    for scorer, same in (("own exit", True), ("former exit", False), ("learned", False)):
        found = [SCORERS[scorer](each, rows).scored.confidence[1] for each in (images, changed)]
        assert np.array_equal(*found) == same


def test_a_scorer_can_be_fitted_on_fewer_images_than_the_path() -> None:
    images, weights = population(300), np.full(300, 1 / 300, np.float32)
    solve = WAYS["path, learned scorer"][1]
    few, all_of_them = (outcomes(images, "learned", solve, count) for count in (60, 0))
    assert not np.array_equal(few.agrees, all_of_them.agrees)
    assert few.curve(weights, agreement=True).accuracy[-1] == pytest.approx(1)
    assert figures(few, weights).shape == (len(COLUMNS),)


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_no_scorer_changes_the_answers_of_full_depth(scorer: str) -> None:
    images = population(100)
    answers = SCORERS[scorer](images, np.arange(50))
    classes = images.probabilities[-1].argmax(axis=1)
    assert (answers.scored.right[-1] == (classes == images.targets)).all()
    assert answers.agrees[-1].all()
    assert ((answers.scored.confidence >= 0) & (answers.scored.confidence <= 1)).all()
