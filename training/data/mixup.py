"""Mixup: each training image is blended with another one, and so are their labels.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018), with a share for
each pair instead of one for the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from training.data.images import Images
from training.distributed import processes, shard
from training.errors import RecipeError
from training.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Mixup:
    """Blends of neighbours in a batch: images 1 and 2, 3 and 4, and so on.

    The shares depend on seed, epoch and step alone, not on the number of processes.

    Args:
        alpha: both parameters of the shares' beta distribution.
        seed: seed of the run.
        classes: number of labels.
    """

    alpha: float
    seed: int
    classes: int

    def __call__(self, images: Images, epoch: int, step: int) -> Images:
        """Return blended images uint8 [N, H, W, 3] with targets float32 [N, classes].

        Args:
            images: this process's shard of a batch.
            epoch: number of the epoch, from 0.
            step: number of the step in the epoch, from 1.
        """
        rng = np.random.default_rng((self.seed, epoch, step))
        batch = processes() * len(images)
        of_pairs = torch.from_numpy(rng.beta(self.alpha, self.alpha, (batch + 1) // 2)).float()
        own = shard(of_pairs.repeat_interleave(2)[:batch]).to(images.pixels.device)[:, None]
        partner = torch.arange(len(images), device=own.device) ^ 1
        if len(images) % 2:  # the last image has no neighbour
            partner[-1] -= 1
        one_hot = F.one_hot(images.targets, self.classes).float()
        pixels = images.pixels.flatten(1).float()
        mixed = torch.lerp(pixels[partner], pixels, own).round().to(torch.uint8)
        return Images(mixed.view_as(images.pixels), torch.lerp(one_hot[partner], one_hot, own))


def new_mixup(recipe: Recipe, classes: int, train_images: int) -> Mixup | None:
    """Build the mixup of a recipe, or return None if it has none.

    Raises:
        RecipeError: two neighbours can be in different processes.
    """
    if not recipe.mixup:
        return None
    in_process = min(recipe.batch_size, train_images) // processes()
    if processes() > 1 and in_process % 2:
        raise RecipeError(
            f"mixup: {in_process} images of a batch in each process are not pairs; give an even "
            "--batch-size for each process"
        )
    return Mixup(recipe.mixup, recipe.seed, classes)
