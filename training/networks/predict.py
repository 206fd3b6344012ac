"""Prediction of all exits for many images."""

from __future__ import annotations

import torch
from torch import Tensor

from training.networks.multi_exit import MultiExitNetwork


@torch.inference_mode()
def predict(network: MultiExitNetwork, pixels: Tensor, batch_size: int = 500) -> Tensor:
    """Compute logits float32 [exits, N, classes] of images uint8 [N, H, W, 3], in eval mode."""
    network.eval()
    batches = [
        torch.stack(network(network.normalize(batch))) for batch in torch.split(pixels, batch_size)
    ]
    return torch.cat(batches, dim=1)
