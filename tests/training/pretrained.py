"""Weights of a small EfficientNet-Lite in a file, and a run that starts from them."""

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.training.families import SMALL, small_network
from tests.training.samples import TINY, tiny_dataset, tiny_progress
from training.fit.checkpoint import Progress
from training.fit.initial import with_weights
from training.networks.multi_exit import MultiExitNetwork
from training.networks.weights import Pretrained
from training.recipes import Recipe

LITE = Recipe.model_validate(
    TINY.model_dump()
    | {
        "backbone": "efficientnet_lite",
        "shape": SMALL["efficientnet_lite"],
        "variant": "joint",
        "optimizer": "adamw",
        "lr": 2e-3,
        "cutout": 0,
    }
)


@cache
def original() -> MultiExitNetwork:
    """Return the network whose weights `write_weights` writes, for 10 classes, in eval mode.

    Its statistics are those of real images, and its classifier has larger weights than fresh ones,
    so that its predictions differ among images and are not all uncertain.
    """
    network = small_network("efficientnet_lite")
    network.normalize.mean.fill_(127 / 255)
    network.normalize.std.fill_(128 / 255)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.get_parameter("heads.2.3.weight").mul_(10)
        network(network.normalize(tiny_dataset().train.pixels))
    return network.eval()


def write_weights(path: Path) -> Path:
    """Write the weights of `original` under their published names, and return the path."""
    network = original()
    own = network.state_dict()
    names = network.pretraining.names
    save_file({there: own[name].contiguous() for name, there in names.items()}, path)
    return path


def retrofit(
    path: Path, *, keep_head: bool, **changes: object
) -> tuple[Progress, Pretrained | None]:
    """Return the start of a run with a frozen trunk, from the weights in a file."""
    recipe = Recipe.model_validate(LITE.model_dump() | {"freeze": "trunk"} | changes)
    recipe, pretrained = with_weights(recipe, str(path), keep_head=keep_head)
    return tiny_progress().model_copy(update={"recipe": recipe}), pretrained
