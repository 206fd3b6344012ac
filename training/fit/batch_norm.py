"""The mode of a network in training: batch norm by the batch, or by its running statistics."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from training.networks.multi_exit import MultiExitNetwork
from training.recipes import BatchNormMode


def start_training(network: MultiExitNetwork, batch_norm: BatchNormMode) -> None:
    """Put a network into training mode.

    With `frozen`, batch norm in the stages keeps its running statistics and normalises by them.
    Its weights and biases are trained. Batch norm in the heads is always in training mode.
    """
    network.train()
    if batch_norm == "frozen":
        for module in network.stages.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
