"""Meta-GF: importances of each exit's gradient for each weight tensor, learned along the way.

Source: Sun et al., "Meta-GF: Training Dynamic-Depth Neural Networks Harmoniously" (ECCV 2022).
There, every exit's gradient is gathered over some steps and a phase of its own trains the
importances so that the fused step lowers all losses. Here that goes on step by step: the
gradients at the parameters that the last fused step led to, which the next step needs anyway,
say how each exit's last gradient should have counted. No pass is run that PCGrad does not run.
"""

from __future__ import annotations

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from training.networks.multi_exit import MultiExitNetwork
from training.objectives.combined import Combined
from training.objectives.per_exit import shared_parameters
from training.record import Record


class MetaGFOptions(Record):
    """How importances learn."""

    rate: PositiveFloat = Field(0.01, description="step of the importances' logarithms")


class MetaGF(Combined):
    """Sum over exits of importance times gradient, importances of a tensor having mean 1.

    With w = softmax(a) over the n exits that reach a tensor, its fused gradient is
    n * sum_i w_i g_i. After the step the slope of the summed loss along a_i is
    -n w_i <g_i - sum_j w_j g_j, G>, G being the next gradient of that loss; a follows it, both
    gradients taken at unit length.
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
        reach = torch.zeros(self.exits, len(shared), dtype=torch.bool)
        first = 0
        for k, stage in enumerate(network.stages):
            count = len([p for p in stage.parameters() if p.requires_grad])
            reach[k:, first : first + count] = True
            first += count
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("logs", torch.zeros(reach.shape))
        self.register_buffer("previous", torch.zeros(self.exits, sum(self.sizes)))

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        self._learn(jacobian)
        self.previous.copy_(jacobian)
        shares = self.shares() * self.reach.sum(dim=0)
        of_each = torch.repeat_interleave(
            shares, torch.tensor(self.sizes, device=shares.device), dim=1
        )
        return (of_each * jacobian).sum(dim=0)

    def shares(self) -> Tensor:
        """The w of every exit and tensor, [exits, tensors]; each column's sum is 1."""
        return self.logs.masked_fill(~self.reach, -torch.inf).softmax(dim=0)

    def _learn(self, jacobian: Tensor) -> None:
        """Move the importances by what the last step did to the losses."""
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
        shares = self.shares()
        slope = shares * (agreement - (shares * agreement).sum(dim=0))
        self.logs += self.rate * slope * self.reach.sum(dim=0)


def _cosines(rows: Tensor, one: Tensor) -> Tensor:
    """Of each row of [exits, n] with [n]; 0 where either is 0."""
    return torch.nn.functional.cosine_similarity(rows, one[None], dim=1, eps=1e-12)
