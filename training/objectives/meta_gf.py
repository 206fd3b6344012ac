"""Meta-GF: learned importances of each exit's gradient for each weight tensor.

Source: Sun et al., "Meta-GF: Training Dynamic-Depth Neural Networks Harmoniously" (ECCV 2022).
The paper gathers every exit's gradient over some steps, then trains the importances in a separate
phase, so that the fused step lowers all losses. Here the importances are updated in every step.
After a fused step, the gradients at the new parameters show how each exit's last gradient should
have been weighed. The next step computes these gradients anyway, so the number of passes is the
same as for PCGrad.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from offramp.bounds import PositiveFloat
from training.networks.multi_exit import MultiExitNetwork
from training.objectives.combined import Combined
from training.objectives.per_exit import shared_parameters
from training.record import FrozenModel


class MetaGFOptions(FrozenModel):
    """Options of Meta-GF."""

    rate: PositiveFloat = Field(0.01, description="learning rate of the importances' logarithms")


class MetaGF(Combined):
    """Sum over exits of importance times gradient. The importances of a tensor have mean 1.

    With w = softmax(a) over the n exits that reach a tensor, its fused gradient is
    n * sum_i w_i g_i. After the step the slope of the summed loss along a_i is
    -n w_i <g_i - sum_j w_j g_j, G>, where G is the next gradient of that loss. a descends along
    this slope, with both gradients scaled to unit length.
    """

    reach: Tensor
    logs: Tensor
    previous: Tensor

    def __init__(
        self, options: MetaGFOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.rate = options.rate
        shared = shared_parameters(network)
        self.sizes = [p.numel() for p in shared]
        reached = [set(network.stages_to(k).parameters()) for k in range(1, self.exits + 1)]
        reach = torch.tensor([[p in each for p in shared] for each in reached])
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("logs", torch.zeros(reach.shape))
        self.register_buffer("previous", torch.zeros(self.exits, sum(self.sizes)))

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        self._learn(jacobian)
        self.previous.copy_(jacobian)
        importances = self.weights() * self.reach.sum(dim=0)
        of_parameters = torch.repeat_interleave(
            importances, torch.tensor(self.sizes, device=importances.device), dim=1
        )
        return (of_parameters * jacobian).sum(dim=0)

    def weights(self) -> Tensor:
        """Compute the w of every exit and tensor, [exits, tensors]. Each column has the sum 1."""
        return self.logs.masked_fill(~self.reach, -torch.inf).softmax(dim=0)

    def _learn(self, jacobian: Tensor) -> None:
        """Update the importances by the effect of the last step on the losses."""
        agreement = torch.stack(
            [
                _cosines(before, now.sum(dim=0))
                for before, now in zip(
                    self.previous.split(self.sizes, dim=1),
                    jacobian.split(self.sizes, dim=1),
                    strict=True,
                )
            ],
            dim=1,
        )
        weights = self.weights()
        slope = weights * (agreement - (weights * agreement).sum(dim=0))
        self.logs += self.rate * slope * self.reach.sum(dim=0)


def _cosines(rows: Tensor, one: Tensor) -> Tensor:
    """Compute the cosine of each row of [exits, n] with [n], or 0 where one of them is 0."""
    return torch.nn.functional.cosine_similarity(rows, one[None], dim=1, eps=1e-12)
