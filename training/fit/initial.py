"""The network and the optimizers that a run begins with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.errors import RecipeError
from training.fit.checkpoint import new_network
from training.fit.optimizers import Optimizers
from training.networks.multi_exit import MultiExitNetwork, Normalize
from training.recipes import Recipe


def initial_network(recipe: Recipe, classes: int, sample: Tensor) -> MultiExitNetwork:
    """Fresh weights by the recipe's seed, which also seeds what is made next.

    Args:
        recipe: of the run.
        classes: number of labels.
        sample: training images uint8 [N, H, W, 3], to normalise by.

    Raises:
        RecipeError: it describes no network, or one that cannot read images of its size.
    """
    torch.manual_seed(recipe.seed)
    network = new_network(recipe, classes)
    for size in {recipe.size, recipe.small_size or recipe.size}:
        _check_size(network, size)
    _set_statistics(network.normalize, sample)
    return network


def initial_optimizers(recipe: Recipe, parameters: Sequence[nn.Parameter]) -> Optimizers:
    """The recipe's, without momentum yet."""
    return Optimizers(
        parameters,
        recipe.optimizer,
        lr=recipe.lr,
        muon_lr=recipe.muon_lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )


@torch.no_grad()
def _check_size(network: MultiExitNetwork, size: int) -> None:
    try:
        network.eval()(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise RecipeError(
            f"size: this network cannot read {size} x {size} pixels; give a larger --size, and no "
            "smaller --small-size"
        ) from error


def _set_statistics(normalize: Normalize, pixels: Tensor) -> None:
    """Mean and deviation of each channel."""
    total, squares = torch.zeros(2, 3, dtype=torch.float64)
    count = 0
    for chunk in torch.split(pixels, 500):
        values = chunk.to(torch.float64).div(255).flatten(0, 2)
        total += values.sum(0)
        squares += values.square().sum(0)
        count += len(values)
    mean = total / count
    # a channel that never changes must not be divided by 0
    std = (squares / count - mean.square()).clamp(min=255**-2).sqrt()
    normalize.mean.copy_(mean)
    normalize.std.copy_(std)
