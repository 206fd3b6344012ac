"""Prediction of all exits for many images."""

from __future__ import annotations

import torch
from torch import Tensor

from training.networks.multi_exit import MultiExitNetwork

PIXELS_AT_ONCE = 500 * 64 * 64  # in a forward pass: features take hundreds of bytes for each


@torch.inference_mode()
def predict(network: MultiExitNetwork, pixels: Tensor, batch_size: int = 500) -> Tensor:
    """Compute logits float32 [exits, N, classes] of images uint8 [N, H, W, 3], in eval mode.

    A forward pass has at most `batch_size` images, and fewer of large ones.
    """
    network.eval()
    size = max(1, min(batch_size, PIXELS_AT_ONCE // (pixels.shape[1] * pixels.shape[2])))
    batches = [torch.stack(network(network.normalize(batch))) for batch in pixels.split(size)]
    return torch.cat(batches, dim=1)
