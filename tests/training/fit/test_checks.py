"""Refusals that need no image, and batches that are too small."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.pretrained import retrofit, write_weights
from tests.training.samples import tiny_dataset, tiny_progress
from training.errors import RecipeError
from training.fit.checks import check_batches, check_recipe
from training.fit.trainer import Trainer
from training.recipes import Recipe

CPU = torch.device("cpu")
# of 8 pixels, its last scale is one pixel
NARROW: dict[str, Any] = {"size": 8, "shift": 1, "cutout": 0}


def recipe(**changes: object) -> Recipe:
    return tiny_progress(**changes).recipe


@pytest.mark.parametrize(
    ("changes", "compiler", "says"),
    [
        ({"beta": (0.1, 0.2)}, None, r"^beta: 2 values for 1 boundaries"),
        ({"backbone": "vgg", "shape": {}, "size": 2, "shift": 0}, None, r"^size: .* 2 x 2 pixels"),
        ({"small_size": 1, "backbone": "vgg", "shape": {}}, None, r"^size: .* 1 x 1 pixels"),
        ({"shape": {"exit": 2}}, None, r"^shape\.exit"),
        ({"objective_options": {"x": 2}}, None, r"^objective\.x"),
        ({}, "no-such", r"^--compile: 'no-such' is not one of"),
        ({"objective": "nash-mtl"}, "inductor", r"^--compile: this objective"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(
    changes: dict[str, Any], compiler: str | None, says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        check_recipe(recipe(**changes), compiler)


def test_a_frozen_network_without_a_head_to_train_is_refused(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.safetensors")
    kept = retrofit(path, keep_head=True)[0].recipe
    check_recipe(kept, None)
    alone = kept.model_copy(update={"shape": {"width": 0.25, "exits": ()}})
    with pytest.raises(RecipeError, match=r"^freeze: .* nothing to train; give --shape\.exits"):
        check_recipe(alone, None)
    check_recipe(alone.model_copy(update={"freeze": "none"}), None)


def few(images: int, **changes: object) -> Trainer:
    dataset = tiny_dataset()
    train = dataset.train.select(torch.arange(images))
    return Trainer(tiny_progress(epochs=1, **changes), replace(dataset, train=train), CPU)


@pytest.mark.parametrize("images", [1, 2, 3, 7])
@pytest.mark.parametrize("changes", [{}, {"batch_size": 1}, {"batch_size": 2, "micro_batch": 1}])
def test_few_images_are_trained_on(images: int, changes: dict[str, Any]) -> None:
    chosen = recipe(**changes)
    check_batches(check_recipe(chosen, None), chosen, images)
    epoch = few(images, **changes).run_epoch(lambda batches, _: batches)
    assert epoch.loss > 0


@pytest.mark.parametrize(
    ("images", "changes", "says"),
    [
        (1, {}, r"^data: there is one training image"),
        (9, {"batch_size": 1}, r"^batch_size: .* give a --batch-size of at least 2"),
        (9, {"micro_batch": 1}, r"^micro_batch: .* at least 3, or null"),
        (9, {"micro_batch": 2}, r"^micro_batch: 2 of 9 images"),
    ],
)
def test_one_image_that_batch_norm_cannot_train_on_is_refused_with_the_remedy(
    images: int, changes: dict[str, Any], says: str
) -> None:
    chosen = recipe(backbone="resnet18", shape={}, **NARROW, **changes)
    with pytest.raises(RecipeError, match=says):
        check_batches(check_recipe(chosen, None), chosen, images)


def test_the_last_micro_batch_has_no_single_image() -> None:
    chosen = recipe(backbone="resnet18", shape={}, **NARROW, micro_batch=4)
    check_batches(check_recipe(chosen, None), chosen, 9)
