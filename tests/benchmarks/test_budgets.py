from __future__ import annotations

import numpy as np
import pytest

from benchmarks.budgets.folds import BUDGETS, outcomes
from benchmarks.budgets.population import SCORERS, Population


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
    curve = outcomes(images, way).curve(np.full(300, 1 / 300, np.float32))
    inside = (curve.flops > 0.2) & (curve.flops < 0.9)
    assert curve.flops[inside] == pytest.approx(BUDGETS[inside], abs=0.05)
    right = (images.probabilities.argmax(axis=2) == images.targets).mean(axis=1)
    assert curve.accuracy[0] == pytest.approx(right[0], abs=0.05)
    assert curve.accuracy[-1] == pytest.approx(right[-1], abs=0.02)


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_no_scorer_changes_the_answers_of_full_depth(scorer: str) -> None:
    images = population(100)
    answers = SCORERS[scorer](images, np.arange(50))
    classes = images.probabilities[-1].argmax(axis=1)
    assert (answers.scored.right[-1] == (classes == images.targets)).all()
    assert answers.agrees[-1].all()
    assert ((answers.scored.confidence >= 0) & (answers.scored.confidence <= 1)).all()
