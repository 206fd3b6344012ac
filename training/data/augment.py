"""Augmentation of a whole batch at once, on the device that holds the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from training.data.images import Images
from training.distributed import processes, shard
from training.errors import RecipeError
from training.recipes import Recipe

JITTERS = 1000  # steps between no change and the largest change of a colour
GREY = (0.299, 0.587, 0.114)  # share of each channel in the brightness (ITU-R BT.601)


@dataclass(frozen=True, slots=True)
class Augment:
    """Random changes to training images.

    Args:
        shift: Largest distance that an image moves in each direction, in pixels (0: no shift).
        flip: True to mirror every image in every other epoch, half of the images in each epoch.
        cutout: Side of the square that is painted grey, in pixels (0: no square).
        color_jitter: Largest relative change of brightness, contrast and saturation, in [0, 1].
    """

    shift: int
    flip: bool
    cutout: int
    color_jitter: float = 0.0

    def draw(self, indices: Tensor, epoch: int, size: int, rng: Generator) -> Tensor:
        """Draw the changes to each image of a batch.

        Args:
            indices: int64 [N], positions of the images in the data set. They decide which images
                are mirrored in this epoch.
            epoch: Number of the epoch, from 0.
            size: Height and width of the images, in pixels.
            rng: Generator of all other changes.

        Returns:
            int64 [N, 3 to 8]: rows down, columns across, mirrored. With cutout, the centre of the
            square. With color_jitter, brightness, contrast and saturation, from 0 to 2 * JITTERS.
        """
        drawn = [self._random(indices, 2 * self.shift + 1, rng) for _ in range(2)]
        drawn.append(mirrored(indices, epoch) if self.flip else torch.zeros_like(indices))
        if self.cutout:
            drawn += [self._random(indices, size, rng) for _ in range(2)]
        if self.color_jitter:
            drawn += [self._random(indices, 2 * JITTERS + 1, rng) for _ in range(3)]
        return torch.stack(drawn, dim=1)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Change images uint8 [N, H, W, 3] as `drawn` says, on the device that holds both."""
        down, across, mirrored, *rest = drawn.unsqueeze(2).unbind(1)
        rows, columns = (
            start + torch.arange(extent, device=images.device)
            for start, extent in zip((down, across), images.shape[1:3], strict=True)
        )
        columns = torch.where(mirrored == 1, columns.flip(1), columns)
        padded = _reflect(images, self.shift)
        picked = torch.arange(len(images), device=images.device)[:, None, None]
        moved = padded[picked, rows[:, :, None], columns[:, None, :]]
        if self.color_jitter:
            factors = 1 + self.color_jitter * (torch.cat(rest[-3:], dim=1) / JITTERS - 1)
            moved = jitter_colors(moved, factors)
        return self._grey_square(moved, rest[:2]) if self.cutout else moved

    @staticmethod
    def _random(like: Tensor, below: int, rng: Generator) -> Tensor:
        return torch.randint(below, like.shape, generator=rng, device=rng.device)

    def _grey_square(self, images: Tensor, centre: Sequence[Tensor]) -> Tensor:
        inside = []
        for extent, middle in zip(images.shape[1:3], centre, strict=True):
            offset = torch.arange(extent, device=images.device) - middle + self.cutout // 2
            inside.append((offset >= 0) & (offset < self.cutout))
        square = inside[0][:, :, None] & inside[1][:, None, :]
        return images.masked_fill(square[..., None], 127)


def jitter_colors(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply brightness, contrast and saturation of images uint8 [N, H, W, 3].

    Source: torchvision's `ColorJitter`, without hue and always in this order.

    Args:
        images: Images to change.
        factors: Float [N, 3], 1 for no change.
    """
    bright, contrast, saturation = factors.to(torch.float32)[:, :, None, None, None].unbind(1)
    weights = torch.tensor(GREY, device=images.device)
    pixels = (images * bright).clamp_(0, 255)
    mean = (pixels @ weights).mean(dim=(1, 2))[:, None, None, None]
    pixels = torch.lerp(mean, pixels, contrast).clamp_(0, 255)
    pixels = torch.lerp((pixels @ weights)[..., None], pixels, saturation)
    return pixels.clamp_(0, 255).round_().to(torch.uint8)


def mirrored(indices: Tensor, epoch: int) -> Tensor:
    """Return 1 for the images that are mirrored in an epoch (from 0), else 0, int64 [N].

    Each image is mirrored in every other epoch. About half of the images are in each epoch.
    """
    return (_scatter(indices) + epoch) % 2


def _scatter(indices: Tensor) -> Tensor:
    """Return a fixed pseudo-random bit for each image."""
    return (indices * 2654435761 >> 16) & 1


def _reflect(images: Tensor, by: int) -> Tensor:
    if by == 0:
        return images
    # torch has no reflection for uint8, and indexing is as fast
    rows, columns = (_reflected(extent, by, images.device) for extent in images.shape[1:3])
    return images[:, rows][:, :, columns]


def _reflected(extent: int, by: int, device: torch.device) -> Tensor:
    position = torch.arange(-by, extent + by, device=device).abs()
    return torch.minimum(position, 2 * (extent - 1) - position)


def shrink(images: Tensor, size: int) -> Tensor:
    """Resize images float [N, 3, H, W] to `size` x `size`. Smaller images train faster."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


@dataclass(frozen=True, slots=True)
class Mixup:
    """Blends of neighbours in a batch, and of their labels: images 1 and 2, 3 and 4, and so on.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018), with a share for
    each pair instead of one for the batch. The shares depend on seed, epoch and step alone, not
    on the number of processes.

    Args:
        alpha: Both parameters of the shares' beta distribution.
        seed: Seed of the run.
        classes: Number of labels.
    """

    alpha: float
    seed: int
    classes: int

    def __call__(self, images: Images, epoch: int, step: int) -> Images:
        """Return blended images uint8 [N, H, W, 3] with targets float32 [N, classes].

        Args:
            images: This process's shard of a batch.
            epoch: Number of the epoch, from 0.
            step: Number of the step in the epoch, from 1.
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
    """Build the mixup of a recipe, or return `None` for a recipe without mixup.

    Raises:
        RecipeError: Two neighbours can be in different processes.
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
