"""The reduction of images to a smaller size, as a module that is exported like a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offramp.bundle.values import Filter
from offramp.images.reduction import REDUCTION, blocks, coefficients
from training.data.augment import shrink


class Reduction(nn.Module):
    """Antialiased reduction: a product over the columns of an image, and one over its rows.

    Both are linear, so that it makes no difference whether images are normalised before or after.
    Unlike Pillow it rounds nothing. The matrices are constants of the graph, not of a checkpoint.

    Args:
        size: Height and width of the images, in pixels.
        smaller: Height and width of the result, in pixels.
        kind: Filter.
    """

    def __init__(self, size: int, smaller: int, kind: Filter) -> None:
        super().__init__()
        self.size, self.smaller = size, smaller
        matrix = coefficients(size, smaller, kind)
        self._read = [read for _, read in blocks(matrix)]
        for k, (own, read) in enumerate(blocks(matrix)):
            taps = torch.tensor(matrix[own, read])
            self.register_buffer(f"down_{k}_{REDUCTION}", taps, persistent=False)
            self.register_buffer(f"across_{k}_{REDUCTION}", taps.T.contiguous(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, 3, size, size] to [N, 3, smaller, smaller], both float32.

        Images of another size, those of the first epochs, are reduced in proportion.
        """
        if images.shape[-1] != self.size:
            return shrink(images, max(1, images.shape[-1] * self.smaller // self.size))
        device = images.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return self._reduced(images)
        with torch.autocast(device, enabled=False):  # pixels in bfloat16 would be coarse
            return self._reduced(images)

    def _reduced(self, images: Tensor) -> Tensor:
        narrow = torch.cat(
            [images[..., read] @ self._matrix("across", k) for k, read in enumerate(self._read)],
            dim=3,
        )
        return torch.cat(
            [self._matrix("down", k) @ narrow[..., read, :] for k, read in enumerate(self._read)],
            dim=2,
        )

    def _matrix(self, axis: str, k: int) -> Tensor:
        matrix: Tensor = getattr(self, f"{axis}_{k}_{REDUCTION}")
        return matrix
