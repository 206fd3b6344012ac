"""Block-dependent losses: a stage is trained by the exits near it, not by all that follow.

After Han et al., "Improving Low-Latency Predictions in Multi-Exit Neural Networks via
Block-Dependent Losses" (TNNLS 2023), from its description of grouping and overlap.
"""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from training.network import MultiExitNetwork
from training.objectives.objective import Objective
from training.objectives.per_exit import add_gradients, average_all
from training.record import Record


class BlockDependentOptions(Record):
    """Which exits train which stages."""

    group: PositiveInt = Field(1, description="neighbouring exits that train the same stages")
    overlap: NonNegativeInt = Field(1, description="stages before its own that a group trains")


class BlockDependent(Objective):
    """Each group's losses reach its heads, its stages and `overlap` stages before them."""

    one_backward = False

    def __init__(
        self, options: BlockDependentOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.options = options

    def backward(self, losses: Tensor, network: MultiExitNetwork) -> None:
        """See Objective."""
        for start in range(0, self.exits, self.options.group):
            end = min(start + self.options.group, self.exits)
            trained = [
                p
                for part in (
                    network.stages[max(0, start - self.options.overlap) : end],
                    network.heads[start:end],
                )
                for p in part.parameters()
                if p.requires_grad
            ]
            gradients = torch.autograd.grad(
                losses[start:end].sum(), trained, retain_graph=end < self.exits, allow_unused=True
            )
            add_gradients(trained, average_all(gradients))
