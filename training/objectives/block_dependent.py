"""Block-dependent losses: a stage is trained by the exits near it, not by all that follow.

After Han et al., "Improving Low-Latency Predictions in Multi-Exit Neural Networks via
Block-Dependent Losses" (TNNLS 2023), from its description of grouping and overlap.

Without overlap the groups part at stage boundaries, and gradients that are cut there leave one
backward pass, joint training's or less. With overlap there is no such cut: inside a stage that
two groups train, a layer's weights need the gradient of both, while what goes on to the stage
before may hold that of one alone, and the two are not to be told apart once they are summed. So
such a stage is passed once for each group that trains it, which is `overlap` + 1 times for
groups of one exit; no pass goes further than its group's stages.
"""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from training.networks.multi_exit import Branch, MultiExitNetwork
from training.objectives.objective import Objective
from training.objectives.per_exit import add_gradients, average_all
from training.record import Record
from training.surgery.feature_map import FeatureMap


class BlockDependentOptions(Record):
    """Which exits train which stages."""

    group: PositiveInt = Field(1, description="neighbouring exits that train the same stages")
    overlap: NonNegativeInt = Field(1, description="stages before its own that a group trains")


class BlockDependent(Objective):
    """Each group's losses reach its heads, its stages and `overlap` stages before them."""

    def __init__(
        self, options: BlockDependentOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.options = options
        self.one_backward = not options.overlap
        if self.one_backward:
            network.at_branch = self._part

    def _part(self, branch: Branch, deeper: int) -> Branch:
        """Nothing comes back from the next group."""
        if (self.exits - deeper) % self.options.group:
            return branch
        return Branch([_values(one) for one in branch.onward], branch.to_exit)

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """See Objective."""
        if self.one_backward:
            super().backward(losses, network, last=last)
        else:
            self._each_group(losses, network)
        for parameter in network.stages.parameters():
            # read by other groups alone, it is not trained, but decays as all weights do
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _each_group(self, losses: Tensor, network: MultiExitNetwork) -> None:
        """A backward pass for each."""
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


def _values(features: Tensor | FeatureMap) -> Tensor:
    """What is read, without gradient."""
    return features.values if isinstance(features, FeatureMap) else features.detach()
