"""Prediction of all exits for many images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.networks.multi_exit import MultiExitNetwork

VALUES_AT_ONCE = 3 * 500 * 64 * 64  # in a forward pass: features take many bytes for each


@torch.inference_mode()
def predict(network: MultiExitNetwork, pixels: Tensor, batch_size: int = 500) -> Tensor:
    """Compute logits float32 [exits, N, classes] of images uint8 [N, H, W, 3], in eval mode.

    A forward pass has at most `batch_size` images, and fewer of large ones.
    """
    network.eval()
    size = min(batch_size, images_at_once(pixels))
    batches = [torch.stack(network(network.normalize(batch))) for batch in pixels.split(size)]
    return torch.cat(batches, dim=1)


def images_at_once(pixels: Tensor, values: int = VALUES_AT_ONCE) -> int:
    """Return the number of images [N, ...] of this size that have at most that many values."""
    return max(1, values // math.prod(pixels.shape[1:]))
