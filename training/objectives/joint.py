"""The weighted sum of the cross-entropies of all exits (MSDNet, DSN; with surgery: DFS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.objectives.objective import Objective
from training.record import FrozenModel


class JointOptions(FrozenModel):
    """Weights of the exits."""

    weights: tuple[PositiveFloat, ...] | None = Field(
        None, description="weight of each exit's loss (null: 1 for all)"
    )


class Joint(Objective):
    """Sum over exits of weight times cross-entropy.

    Raises:
        RecipeError: the number of weights is not the number of exits.
    """

    weights: Tensor

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

    def forward(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """See Objective."""
        return self.weights * self.cross_entropies(logits, targets)
