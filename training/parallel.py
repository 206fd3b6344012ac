"""Several processes that train one network, as `torchrun` starts them."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many train together; 1 without `torchrun`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def average(tensor: Tensor) -> None:
    """Replace a tensor by its mean over all processes."""
    if processes() > 1:
        dist.all_reduce(tensor)
        tensor /= processes()
