"""Flops: multiply-adds for one image, as the MSDNet and DFS papers count them.

Convolutions and matrix products alone are counted; torch's counter gives 2 for each
multiply-add and is halved here, and nowhere else.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.network import Features, MultiExitNetwork


@torch.no_grad()
def flops_to_exits(network: MultiExitNetwork, size: int) -> tuple[int, ...]:
    """Flops spent when a request leaves at each exit, all heads on the way included.

    Args:
        network: left in the mode it is in.
        size: height and width of the image, in pixels.
    """
    parameter = next(network.parameters())
    features: Features = [parameter.new_zeros(1, 3, size, size)]
    spent, counts = 0, []
    training = network.training
    network.eval()
    for stage, head in zip(network.stages, network.heads, strict=True):
        with FlopCounterMode(display=False) as counter:
            features = stage(features)
            head(features[-1])
        spent += counter.get_total_flops() // 2
        counts.append(spent)
    network.train(training)
    return tuple(counts)
