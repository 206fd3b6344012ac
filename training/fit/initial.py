"""The network and the optimizers at the start of a run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.errors import RecipeError, unreadable_size
from training.fit.checkpoint import new_network
from training.fit.frozen import freeze
from training.fit.step.optimizers import Optimizers
from training.fit.step.parameter_groups import parameter_groups
from training.networks.backbones import pretrained_weights
from training.networks.backbones.timm_network import PREFIX
from training.networks.multi_exit import MultiExitNetwork
from training.networks.pretrained import load_pretrained
from training.networks.weights import Pretrained
from training.objectives import Objective, build_objective
from training.recipes import Recipe, Weights


def initial_network(
    recipe: Recipe, classes: int, sample: Tensor | None, pretrained: Pretrained | None = None
) -> MultiExitNetwork:
    """Build the recipe's network with fresh weights, and copy pretrained ones into it.

    Sets torch's seed to that of the recipe, which also seeds what the caller builds next.

    Args:
        recipe: Recipe of the run.
        classes: Number of labels.
        sample: Training images uint8 [N, H, W, 3], for the mean and deviation of each channel.
            With pretrained weights it is not needed: these are those of the images that the
            weights were trained on.
        pretrained: Weights of the recipe's record. `None`: the weights stay fresh, for those of a
            checkpoint.

    Raises:
        RecipeError: The recipe describes no valid network, or one that cannot read images of the
            recipe's size, or the pretrained weights do not fit it.
    """
    torch.manual_seed(recipe.seed)
    network = new_network(recipe, classes)
    for size in {recipe.size, recipe.small_size or recipe.size}:
        _check_size(network, size, recipe.first_size)
    mean, std = _mean_and_std(recipe.weights, sample)
    network.normalize.mean.copy_(mean)
    network.normalize.std.copy_(std)
    if pretrained is not None:
        load_pretrained(network, pretrained)
    freeze(network, recipe)
    return network


def initial_objective(
    recipe: Recipe, network: MultiExitNetwork, of_classes: Tensor | None = None
) -> Objective:
    """Build the recipe's objective.

    Args:
        recipe: Recipe of the run.
        network: Network to train.
        of_classes: Weight of each class, float32 [classes]. `None`: equal weights.

    Raises:
        RecipeError: An option of the objective is unknown or out of range.
    """
    return build_objective(
        recipe.objective, recipe.objective_options, network, recipe.label_smoothing, of_classes
    )


def with_weights(
    recipe: Recipe, source: str | None, *, keep_head: bool
) -> tuple[Recipe, Pretrained | None]:
    """Read the weights that a run starts from, and record them in its recipe.

    Args:
        recipe: Recipe of the run.
        source: Value of `--weights`. `None`: if the recipe has a record of weights, the package, or
            the hub for a network of timm.
        keep_head: The weights' own classifier becomes that of the last exit.

    Raises:
        RecipeError: The weights cannot be read, or there are none with a head to keep or a trunk
            to freeze.
    """
    if source is None and recipe.weights is not None:
        source = "hub" if recipe.backbone.startswith(PREFIX) else "package"
    if source in (None, "none"):
        if keep_head:
            raise RecipeError("--keep-head: there are no weights; give --weights")
        if recipe.freeze == "trunk":
            raise RecipeError("--freeze: the trunk has random weights; give --weights")
        return recipe.model_copy(update={"weights": None}), None
    if recipe.pseudo_labels and not keep_head:
        raise RecipeError("--pseudo-labels: they need the classifier of the weights; --keep-head")
    pretrained = pretrained_weights(recipe.backbone, recipe.shape, source, keep_head=keep_head)
    return recipe.model_copy(update={"weights": pretrained.record}), pretrained


def initial_optimizers(
    recipe: Recipe, network: MultiExitNetwork, objective: nn.Module
) -> Optimizers:
    """Build the recipe's optimizers of network and objective, without state."""
    return Optimizers(
        parameter_groups(recipe, network, objective),
        recipe.optimizer,
        muon_lr=recipe.muon_lr,
        momentum=recipe.momentum,
        clip_norm=recipe.clip_norm,
    )


@torch.no_grad()
def _check_size(network: MultiExitNetwork, size: int, first_size: int | None) -> None:
    try:
        network.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError) as error:  # timm asserts the size
        raise unreadable_size(size, first_size) from error


def _mean_and_std(weights: Weights | None, sample: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation of each channel: as the weights record, or of the sample."""
    if weights is not None:
        return torch.tensor(weights.mean), torch.tensor(weights.std)
    assert sample is not None
    total, squares = torch.zeros(2, 3, dtype=torch.float64)
    count = 0
    for chunk in torch.split(sample, 500):
        values = chunk.to(torch.float64).div(255).flatten(0, 2)
        total += values.sum(0)
        squares += values.square().sum(0)
        count += len(values)
    mean = total / count
    # not 0 for a channel with a constant value
    return mean, (squares / count - mean.square()).clamp(min=255**-2).sqrt()
