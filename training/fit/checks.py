"""Checks of a recipe before any image is decoded."""

from __future__ import annotations

import torch

from training.data.batches import whole_batch
from training.distributed import processes
from training.errors import RecipeError
from training.fit.initial import initial_network, initial_objective
from training.fit.step.gradient import Losses, check_compiler, micro_batches
from training.recipes import Recipe

CLASSES = 2  # of the network that is checked: the number of classes is not known yet


def check_recipe(recipe: Recipe, compiler: str | None) -> Losses:
    """Build the network and the objective of a recipe, to check that they fit each other.

    Args:
        recipe: Recipe of the run.
        compiler: Backend of torch.compile. `None`: not compiled.

    Returns:
        Network and objective with fresh weights, for `check_batches`.

    Raises:
        RecipeError: The recipe describes no valid network or objective, the network cannot read
            images of that size or has nothing to train, or the objective cannot be compiled by that
            backend.
    """
    grey = torch.full((1, 1, 1, 3), 128, dtype=torch.uint8)
    network = initial_network(recipe, CLASSES, grey)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError(
            "freeze: with --keep-head, trunk and only exit of this network stay as they are, so "
            "there is nothing to train; give --shape.exits, or leave --keep-head out"
        )
    objective = initial_objective(recipe, network)
    check_compiler(compiler, objective)
    return Losses(network, objective)


def check_batches(losses: Losses, recipe: Recipe, train_images: int) -> None:
    """Check that batches of that many images can be divided and trained on.

    Args:
        losses: Result of `check_recipe`. Its statistics change.
        recipe: Recipe of the run.
        train_images: Number of training images.

    Raises:
        RecipeError: A batch cannot be divided evenly among the processes, or a forward pass has
            one image, which batch norm of this network cannot train on.
    """
    shard = whole_batch(recipe, train_images) // processes()
    if min(end - start for start, end in micro_batches(shard, recipe.micro_batch)) > 1:
        return
    losses.train()
    for size in {recipe.size, recipe.small_size or recipe.size}:
        try:
            losses(torch.zeros(1, 3, size, size), torch.zeros(1, dtype=torch.int64))
        except ValueError as error:
            if "per channel" not in str(error):  # not of batch norm
                raise
            raise RecipeError(_one_image(recipe, shard)) from error


def _one_image(recipe: Recipe, shard: int) -> str:
    reason = "batch norm of this network cannot train on one image of this size"
    if shard > 1:
        return (
            f"micro_batch: {recipe.micro_batch} of {shard} images leaves a forward pass with one, "
            f"and {reason}; give a --micro-batch of at least 3, or null"
        )
    if recipe.batch_size > processes():
        return (
            f"data: there is one training image for each process, and {reason}; add images or "
            "start fewer processes"
        )
    return f"batch_size: {reason}; give a --batch-size of at least {2 * processes()}"
