"""A step of training on one batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.augment import Mixup
from training.data.images import Images
from training.distributed import rank
from training.fit.step.gradient import GradientAccumulator
from training.fit.step.optimizers import Optimizers, lr_factor
from training.objectives import Objective
from training.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Step:
    """A step of training on one batch.

    Attributes:
        objective: Objective to minimise.
        gradient: Adds the gradient of a batch to every parameter.
        optimizers: Update all parameters.
        mixup: Blends the images of a batch, if the recipe says so.
        reads_features: True if a batch has features in place of pixels.
    """

    objective: Objective
    gradient: GradientAccumulator
    optimizers: Optimizers
    mixup: Mixup | None
    reads_features: bool

    def run(self, recipe: Recipe, images: Images, epoch: int, number: int, share: float) -> Tensor:
        """Update all parameters once, and return the loss [] of this process's shard.

        Args:
            recipe: Recipe of the run.
            images: This process's shard of a batch.
            epoch: Number of the epoch, from 0.
            number: Number of the step in the epoch, from 1.
            share: Share of the run that is done, 0 to 1.
        """
        _seed_step(recipe.seed, epoch, number)
        self.objective.start_step(share)
        self.optimizers.zero_grad()
        if self.mixup:
            images = self.mixup(images, epoch, number)
        loss = self.gradient.add(images, None if self.reads_features else size_in(recipe, epoch))
        self.optimizers.step(factor_at(recipe, share))
        return loss


def size_in(recipe: Recipe, epoch: int) -> int:
    """Return the size in pixels of the images in an epoch (from 0)."""
    small = recipe.small_size if epoch < recipe.small_epochs else None
    return small or recipe.size


def factor_at(recipe: Recipe, share: float) -> float:
    """Return the share of the peak learning rate at a share of the run that is done."""
    return lr_factor(recipe.schedule, share, recipe.warmup, recipe.milestones)


def _seed_step(seed: int, epoch: int, number: int) -> None:
    """Set torch's seed. Each process has its own masks of dropout."""
    seeds = np.random.SeedSequence((seed, epoch, number, rank()))
    torch.manual_seed(int(seeds.generate_state(1)[0]))
