"""A small network of every backbone, for 32 x 32 pixels, with dropout off."""

from functools import cache

import torch
from torch import Tensor

from tests.training.samples import tiny_dataset
from training.networks.backbones import build_network
from training.networks.multi_exit import MultiExitNetwork

CLASSES = 10
SMALL: dict[str, dict[str, object]] = {
    "efficientnet_lite": {"width": 0.25, "exits": (0.3, 0.6), "hidden": 16},
    "msdnet": {
        "exits": 2,
        "base": 1,
        "step": 1,
        "channels": 4,
        "growth": 4,
        "head_channels": None,
        "head_dropout": 0.0,
    },
    "resnet18": {"channels": 8},
    "vgg": {"convolutions": (1, 2), "channels": 8},
    "vit": {
        "image_size": 32,
        "patch": 8,
        "width": 16,
        "blocks": 4,
        "exits": 3,
        "attention_heads": 2,
        "dropout": 0.0,
    },
}


def small_network(backbone: str) -> MultiExitNetwork:
    """Build a network with fresh weights, trained batch-norm statistics and a normalisation."""
    network = _fresh(backbone)
    network.load_state_dict(_trained_statistics(backbone))
    return network


def first_exits(backbone: str) -> MultiExitNetwork:
    """Build the first two exits of a small network, with half its layers, of all kinds."""
    network = small_network(backbone)
    network.stages, network.heads = network.stages[:2], network.heads[:2]
    return network


def _fresh(backbone: str) -> MultiExitNetwork:
    torch.manual_seed(0)
    network = build_network(backbone, SMALL[backbone], CLASSES)
    network.normalize.mean.fill_(0.45)
    network.normalize.std.fill_(0.25)
    return network


@cache
def _trained_statistics(backbone: str) -> dict[str, Tensor]:
    """Return the state after ten forward passes, once for all tests of a process."""
    network = _fresh(backbone)
    with torch.no_grad():
        for _ in range(10):
            network(network.normalize(tiny_dataset().held_out.pixels))
    return network.state_dict()
