from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.training.samples import PARQUET
from training.__main__ import main
from training.fit.checkpoint import load_checkpoint, new_network
from training.networks.backbones import build_network, pretrained_weights
from training.networks.backbones.timm_network import PREFIX
from training.networks.flops import flop_costs
from training.recipes import RECIPES, Recipe

EXITS = {
    "cifar-compact": 4,
    "cifar-comparison": 4,
    "cifar-full": 7,
    "cifar-paper": 7,
    "cifar-paper-resnet18": 4,
    "cifar-paper-vgg7": 6,
    "imagenet-paper": 5,
    "imagenet-paper-vit": 6,
    "photos": 4,
    "photos-small-first": 4,
    "photos-quick": 4,
    "photos-unlabelled": 4,
}


# A network of timm can only be built where timm is installed.
BUILT = [
    pytest.param(name, marks=pytest.mark.timm if recipe.backbone.startswith(PREFIX) else ())
    for name, recipe in RECIPES.items()
]


@pytest.mark.parametrize("name", BUILT)
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


@pytest.mark.timm
def test_the_record_of_the_papers_weights_is_what_timm_states() -> None:
    recipe = RECIPES["imagenet-paper-vit"]
    assert recipe.weights is not None
    cfg = import_module("timm").create_model(recipe.backbone.removeprefix(PREFIX)).pretrained_cfg
    record = recipe.weights
    assert record.source == f"timm, {cfg['hf_hub_id']}"
    assert (record.licence, record.size) == (cfg["license"], cfg["input_size"][-1])
    assert (record.mean, record.std) == (cfg["mean"], cfg["std"])
    assert (record.filter, record.margin) == (cfg["interpolation"], cfg["crop_pct"])


@pytest.mark.timm
def test_the_papers_vit_has_the_exits_and_costs_of_our_own() -> None:
    recipe = RECIPES["imagenet-paper-vit"]
    pretrained = new_network(recipe, classes=1000)
    assert flop_costs(pretrained, 224) == flop_costs(build_network("vit", {}, 1000), 224)
    assert pretrained.surgery_at(1).variant == "released"


@pytest.mark.timm
def test_the_papers_vit_is_trained_from_random_weights_in_a_dry_run(tmp_path: Path) -> None:
    options = [
        *("imagenet-paper-vit", "--weights=none", f"--data={PARQUET}", "--device=cpu"),
        *("--size=32", "--shape.image_size=32", "--held-out=460", "--batch-size=20"),
        *("--epochs=1", "--images=disk", "--workers=0"),
    ]
    assert main([*options, f"--out={tmp_path / 'run'}"]) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    recipe = checkpoint.progress.recipe
    assert (recipe.optimizer, recipe.precision, recipe.weights) == ("adamw", "bf16", None)
    assert checkpoint.network().exits == 6
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    "name", ["photos", "photos-small-first", "photos-quick", "photos-unlabelled"]
)
def test_the_record_of_weights_is_that_of_the_package(name: str) -> None:
    recipe = RECIPES[name]
    found = pretrained_weights(recipe.backbone, recipe.shape, "package", keep_head=False)
    assert recipe.weights == found.record
