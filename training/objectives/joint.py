"""The weighted sum of the cross-entropies of all exits (MSDNet, DSN; with surgery: DFS).

With `backbone_first` only the last exit's loss counts in the first part of the run: a mixed
schedule, from Kubaty et al., "How to Train Your Multi-Exit Model? Analyzing the Impact of Training
Strategies" (ICML 2025, arXiv 2407.14320). There the second part starts with a learning rate of its
own. Here one schedule covers the whole run. Fixed surgery would keep the last exit from most of the
stages in the first part, so use variant `joint` or the rule `conflict`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from offramp.bounds import PositiveFloat
from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.objectives.objective import Objective
from training.record import FrozenModel


class JointOptions(FrozenModel):
    """Weights of the exits."""

    weights: tuple[PositiveFloat, ...] | None = Field(
        None, description="weight of each exit's loss (null: 1 for all)"
    )
    backbone_first: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the run in which only the last exit's loss counts, 0 to less than "
        "1",
    )


class Joint(Objective):
    """Sum over exits of weight times cross-entropy.

    Raises:
        RecipeError: The number of weights is not the number of exits.
    """

    weights: Tensor
    counted: Tensor

    def __init__(
        self, options: JointOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        weights = options.weights or (1.0,) * self.exits
        if len(weights) != self.exits:
            raise RecipeError(
                f"objective.weights: {len(weights)} weights for {self.exits} exits; give one each"
            )
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        # a tensor, so that a compiled step is not compiled again when it changes
        self.register_buffer("counted", torch.ones(self.exits), persistent=False)
        self._backbone_first = options.backbone_first

    def start_step(self, share_done: float) -> None:
        """See Objective."""
        self.counted[:-1] = float(share_done >= self._backbone_first)

    def forward(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """See Objective."""
        return self.weights * self.counted * self.cross_entropies(logits, targets)
