"""Gradients of all exits made into one by a rule of multi-task learning; the rules are torchjd's.

Sources: PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning" (NeurIPS 2020). CAGrad:
Liu et al., "Conflict-Averse Gradient Descent" (NeurIPS 2021). Nash-MTL: Navon et al.,
"Multi-Task Learning as a Bargaining Game" (ICML 2022).
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from training.errors import RecipeError
from training.network import MultiExitNetwork
from training.objectives.objective import Objective
from training.objectives.per_exit import add_flat, gradient_of_each
from training.record import Record


def _rules(*needed: str) -> ModuleType:
    """The rules of torchjd, if it and what they need are installed."""
    try:
        for module in needed:
            import_module(module)
        return import_module("torchjd.aggregation")
    except ImportError as error:
        raise RecipeError(
            f"objective: this one needs {error.name}; pip install 'offramp[objectives]'"
        ) from error


class PCGradOptions(Record):
    """None."""


class CAGradOptions(Record):
    """How far from the mean gradient to go."""

    radius: NonNegativeFloat = Field(
        0.4, description="of the ball around the mean gradient, in its norm (the paper's c)"
    )


class NashMTLOptions(Record):
    """How large its gradients get."""

    max_norm: NonNegativeFloat = Field(
        1.0, description="of the gradient it gives (0: no bound; as in the authors' code: 1)"
    )


class Combined(Objective):
    """One gradient from the Jacobian [exits, shared parameters] of all losses."""

    one_backward = False

    def backward(self, losses: Tensor, network: MultiExitNetwork) -> None:
        """See Objective."""
        add_flat(network, self.combine(gradient_of_each(losses, network)))

    def combine(self, jacobian: Tensor) -> Tensor:
        """[exits, n] to [n], on the scale of the sum over exits."""
        return jacobian.sum(dim=0)


class PCGrad(Combined):
    """Projects each exit's gradient off those it conflicts with, in random order; then the sum."""

    steps: Tensor

    def __init__(
        self, options: PCGradOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        del options
        super().__init__(network, label_smoothing)
        self.rule = _rules().PCGrad()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        with torch.random.fork_rng(devices=[]):  # one order for all processes, and on resuming
            torch.manual_seed(int(self.steps))
            combined: Tensor = self.rule(jacobian)
        self.steps += 1
        return combined


class CAGrad(Combined):
    """Helps the worst-off exit within a ball around the mean gradient."""

    def __init__(
        self, options: CAGradOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.rule = _rules("cvxpy").CAGrad(c=options.radius)

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        combined: Tensor = self.rule(jacobian)
        return combined * self.exits


class NashMTL(Combined):
    """The bargaining solution: weights a with G a = 1 / a for the Gram matrix G."""

    bargain: Tensor

    def __init__(
        self, options: NashMTLOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.rule = _rules("cvxpy", "ecos").NashMTL(self.exits, max_norm=options.max_norm)
        self.register_buffer("bargain", torch.ones(self.exits, dtype=torch.float64))

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        weighting = self.rule.weighting
        weighting.prvs_alpha = self.bargain.cpu().numpy()
        combined: Tensor = self.rule(jacobian)
        self.bargain.copy_(torch.as_tensor(weighting.prvs_alpha))
        return combined
