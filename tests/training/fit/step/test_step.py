"""The size of the images and the learning rate in the course of a run."""

from __future__ import annotations

from training.fit.step.step import factor_at, size_in
from training.recipes import RECIPES


def test_the_first_epochs_have_small_images() -> None:
    changes = {"size": 32, "small_size": 24, "small_epochs": 2}
    recipe = RECIPES["cifar-paper"].model_copy(update=changes)
    assert [size_in(recipe, epoch) for epoch in range(4)] == [24, 24, 32, 32]
    whole = recipe.model_copy(update={"small_size": None})
    assert [size_in(whole, epoch) for epoch in range(4)] == [32, 32, 32, 32]


def test_the_learning_rate_follows_the_schedule_of_the_recipe() -> None:
    changes = {"schedule": "linear", "warmup": 0.0}
    recipe = RECIPES["cifar-paper"].model_copy(update=changes)
    assert [factor_at(recipe, share) for share in (0.0, 0.25, 0.5)] == [1.0, 0.75, 0.5]
