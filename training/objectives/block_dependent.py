"""Block-dependent losses: the exits near a stage train it, not all exits after it.

Source: Han et al., "Improving Low-Latency Predictions in Multi-Exit Neural Networks via
Block-Dependent Losses" (TNNLS 2023), by its description of grouping and overlap.

Without overlap, the groups are separated at stage boundaries. Stopping gradients there leaves one
backward pass, which costs no more than that of joint training. With overlap this is not possible.
Inside a stage that two groups train, the weights of a layer need the gradient of both groups, but
the stage before it can need the gradient of one group alone. Once the two are summed they cannot
be separated. Such a stage therefore has one backward pass for each group that trains it: `overlap`
+ 1 passes for groups of one exit. No pass goes further than the stages of its group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from offramp.bounds import NonNegativeInt, PositiveInt
from training.networks.multi_exit import Branch, MultiExitNetwork
from training.objectives.objective import Objective
from training.objectives.per_exit import add_gradients, average_all
from training.record import FrozenModel
from training.surgery.feature_map import FeatureMap


class BlockDependentOptions(FrozenModel):
    """Options that say which exits train which stages."""

    group: PositiveInt = Field(1, description="neighbouring exits that train the same stages")
    overlap: NonNegativeInt = Field(1, description="stages before its own that a group also trains")


class BlockDependent(Objective):
    """Losses of a group of exits train its heads, its stages and `overlap` stages before them."""

    def __init__(
        self, options: BlockDependentOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.options = options
        self.one_backward = not options.overlap
        if self.one_backward:
            self.boundary = (StopAtGroups(options.group),)

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """See Objective."""
        if self.one_backward:
            super().backward(losses, network, last=last)
        else:
            self._each_group(losses, network)
        for parameter in network.stages.parameters():
            # a parameter that no loss of its groups reads is not trained, but it decays
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _each_group(self, losses: Tensor, network: MultiExitNetwork) -> None:
        """Run a backward pass for each group."""
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


@dataclass(frozen=True, slots=True)
class StopAtGroups:
    """Boundary step that stops the gradients of the next group.

    Args:
        group: Exits in a group.
    """

    group: int

    def __call__(self, branch: Branch, k: int, _deeper: int) -> Branch:
        """Detach the features of exit k for the next stage if that belongs to the next group."""
        if k % self.group:
            return branch
        return Branch([_detached(one) for one in branch.onward], branch.to_exit)


def _detached(features: Tensor | FeatureMap) -> Tensor:
    return features.values if isinstance(features, FeatureMap) else features.detach()
