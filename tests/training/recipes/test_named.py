import pytest
import torch

from training.fit.checkpoint import new_network
from training.networks.backbones import pretrained_weights
from training.recipes import RECIPES, Recipe

EXITS = {
    "cifar-compact": 4,
    "cifar-comparison": 4,
    "cifar-full": 7,
    "cifar-paper": 7,
    "cifar-paper-resnet18": 4,
    "cifar-paper-vgg7": 6,
    "imagenet-paper": 5,
    "photos": 4,
    "photos-quick": 4,
    "photos-unlabelled": 4,
}


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_describes_a_network_for_its_image_size(name: str) -> None:
    recipe = RECIPES[name]
    with torch.device("meta"):
        network = new_network(recipe, classes=10)
        logits = network(torch.empty(2, 3, recipe.size, recipe.size))
    assert len(logits) == EXITS[name]
    assert network.surgery_at(1).variant == recipe.variant


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_unchanged_by_a_checkpoints_header(name: str) -> None:
    """Otherwise a run could not be resumed."""
    assert Recipe.model_validate_json(RECIPES[name].model_dump_json()) == RECIPES[name]


@pytest.mark.parametrize("name", ["photos", "photos-quick", "photos-unlabelled"])
def test_the_record_of_weights_is_that_of_the_package(name: str) -> None:
    recipe = RECIPES[name]
    found = pretrained_weights(recipe.backbone, recipe.shape, "package", keep_head=False)
    assert recipe.weights == found.record
