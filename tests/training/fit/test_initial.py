"""A run starts from fresh weights or from pretrained ones, and its recipe records which."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.training.families import SMALL
from tests.training.samples import TINY, tiny_dataset
from training.errors import RecipeError
from training.fit.initial import initial_network, with_weights
from training.networks.backbones import build_network
from training.recipes import PLAIN, RECIPES, Recipe, Resizing

LITE = TINY.model_copy(
    update={"backbone": "efficientnet_lite", "shape": SMALL["efficientnet_lite"]}
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file of weights for the small EfficientNet-Lite, for 10 classes."""
    torch.manual_seed(7)
    network = build_network("efficientnet_lite", LITE.shape, 10)
    own, path = network.state_dict(), tmp_path / "weights.safetensors"
    save_file({there: own[name] for name, there in network.pretraining.names.items()}, path)
    return path


def pixels() -> Tensor:
    return tiny_dataset().train.pixels


def test_without_weights_the_images_own_statistics_are_used() -> None:
    recipe, pretrained = with_weights(LITE, None, keep_head=False)
    assert (recipe, pretrained) == (LITE, None)
    network = initial_network(recipe, 10, pixels())
    scaled = pixels().double().flatten(0, 2) / 255
    torch.testing.assert_close(network.normalize.mean.double(), scaled.mean(0))
    assert recipe.resizing == PLAIN


@pytest.mark.parametrize("keep_head", [True, False])
def test_with_weights_their_own_statistics_are_used(weights: Path, keep_head: bool) -> None:
    recipe, pretrained = with_weights(LITE, str(weights), keep_head=keep_head)
    assert recipe.weights is not None
    network = initial_network(recipe, 10, pixels(), pretrained)
    torch.testing.assert_close(network.normalize.mean, torch.full((3,), 127 / 255))
    torch.testing.assert_close(network.normalize.std, torch.full((3,), 128 / 255))
    assert pretrained is not None
    own, fresh = network.state_dict(), initial_network(recipe, 10, pixels()).state_dict()
    for name, there in network.pretraining.names.items():
        copied = keep_head or name not in network.pretraining.classifier
        assert torch.equal(own[name], pretrained.tensors[there] if copied else fresh[name])


def test_images_are_resized_as_for_the_weights_unless_the_recipe_says_how(weights: Path) -> None:
    recipe, _ = with_weights(LITE, str(weights), keep_head=False)
    assert recipe.resizing == Resizing("bicubic", 0.875)
    changed = recipe.model_copy(update={"filter": "box", "margin": 1.0})
    assert changed.resizing == Resizing("box", 1.0)


def test_a_recipe_with_weights_is_read_back_from_its_json(weights: Path) -> None:
    recipe, _ = with_weights(LITE, str(weights), keep_head=True)
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert (again.weights, again.resizing) == (recipe.weights, recipe.resizing)
    assert LITE.continuing(recipe).weights == recipe.weights
    assert with_weights(recipe, "none", keep_head=False)[0].weights is None


def test_a_recipe_that_names_weights_reads_them_from_the_package() -> None:
    recipe, pretrained = with_weights(RECIPES["photos"], None, keep_head=False)
    assert pretrained is not None
    assert (recipe.weights, recipe) == (pretrained.record, RECIPES["photos"])


def test_a_head_is_kept_only_from_weights() -> None:
    with pytest.raises(RecipeError, match="--keep-head: there are no weights; give --weights"):
        with_weights(LITE, None, keep_head=True)
