"""Augmentation of a whole batch at once, on the device that holds the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to a training image.

    Args:
        shift: pixels by which the picture is moved at most, each way (0: not at all).
        flip: mirror every image in every other epoch, half of them in each.
        cutout: side of the square that is greyed out, in pixels (0: none).
    """

    shift: int
    flip: bool
    cutout: int

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, rng: Generator) -> Tensor:
        """Augment images uint8 [N, H, W, 3].

        Args:
            images: the batch.
            indices: int64 [N], which images of the set they are; decides who is mirrored when.
            epoch: counted from 0.
            rng: where shifts and squares come from.

        Returns:
            uint8 [N, H, W, 3].
        """
        height, width = images.shape[1:3]
        rows = self._window(len(images), height, rng)
        columns = self._window(len(images), width, rng)
        if self.flip:
            mirrored = (_scatter(indices) + epoch) % 2 == 1
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        padded = _reflect(images, self.shift)
        picked = torch.arange(len(images), device=images.device)[:, None, None]
        moved = padded[picked, rows[:, :, None], columns[:, None, :]]
        return self._cut(moved, rng) if self.cutout else moved

    def _window(self, count: int, extent: int, rng: Generator) -> Tensor:
        start = torch.randint(2 * self.shift + 1, (count, 1), generator=rng, device=rng.device)
        return start + torch.arange(extent, device=rng.device)

    def _cut(self, images: Tensor, rng: Generator) -> Tensor:
        inside = []
        for extent in images.shape[1:3]:
            centre = torch.randint(extent, (len(images), 1), generator=rng, device=rng.device)
            offset = torch.arange(extent, device=rng.device) - centre + self.cutout // 2
            inside.append((offset >= 0) & (offset < self.cutout))
        square = inside[0][:, :, None] & inside[1][:, None, :]
        return images.masked_fill(square[..., None], 127)


def _scatter(indices: Tensor) -> Tensor:
    """A fixed bit for each image, as good as a coin."""
    return (indices * 2654435761 >> 16) & 1


def _reflect(images: Tensor, by: int) -> Tensor:
    if by == 0:
        return images
    # reflection is not implemented for uint8, and indexing is as fast
    rows, columns = (_reflected(extent, by, images.device) for extent in images.shape[1:3])
    return images[:, rows][:, :, columns]


def _reflected(extent: int, by: int, device: torch.device) -> Tensor:
    position = torch.arange(-by, extent + by, device=device).abs()
    return torch.minimum(position, 2 * (extent - 1) - position)


def shrink(images: Tensor, size: int) -> Tensor:
    """Images float [N, 3, H, W] at `size` x `size`: training at less than full size is cheaper."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
