"""Small networks on images of 16 x 16 pixels first, then of 32 x 32."""

from __future__ import annotations

import torch

from tests.training.families import CLASSES, SMALL
from tests.training.samples import TINY
from training.fit.checkpoint import new_network
from training.networks.multi_exit import MultiExitNetwork
from training.recipes import Recipe


def two_sizes(backbone: str, **changes: object) -> Recipe:
    """Return the tiny recipe with a small network, and a smaller image first."""
    fields = {"backbone": backbone, "shape": SMALL[backbone], "first_size": 16}
    return Recipe.model_validate(TINY.model_dump() | fields | changes)


def network_of(recipe: Recipe) -> MultiExitNetwork:
    """Build the network of a recipe with fresh weights and a normalisation."""
    torch.manual_seed(0)
    network = new_network(recipe, CLASSES)
    network.normalize.mean.fill_(0.45)
    network.normalize.std.fill_(0.25)
    return network


def images(size: int = 32) -> torch.Tensor:
    """Return four normalised images."""
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1))
