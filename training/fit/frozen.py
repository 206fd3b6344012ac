"""The parts of a network that training does not change: its trunk, a kept head, batch norm.

A part that is frozen is in eval mode, so batch norm in it normalises by the running statistics and
keeps them, and dropout in it does nothing.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.networks.multi_exit import MultiExitNetwork
from training.recipes import Recipe


def frozen_parts(network: MultiExitNetwork, recipe: Recipe) -> list[nn.Module]:
    """Return the parts that the recipe freezes: all stages, and the last head if it is kept."""
    if recipe.freeze == "none":
        return []
    keep_head = recipe.weights is not None and recipe.weights.keep_head
    return [network.stages, network.heads[-1]] if keep_head else [network.stages]


def freeze(network: MultiExitNetwork, recipe: Recipe) -> None:
    """Let the parameters of frozen parts need no gradient. Optimizers then leave them out."""
    for part in frozen_parts(network, recipe):
        part.requires_grad_(requires_grad=False)


def start_training(network: MultiExitNetwork, recipe: Recipe) -> None:
    """Put a network into training mode, and its frozen parts into eval mode.

    With frozen batch norm, that in the stages keeps its running statistics and normalises by them.
    Its weights and biases are trained. Batch norm in trained heads is always in training mode.
    """
    network.train()
    for part in frozen_parts(network, recipe):
        part.eval()
    if recipe.batch_norm == "frozen":
        for module in network.stages.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
