"""Gradients of all exits made into one by a rule of multi-task learning.

PCGrad and CAGrad are torchjd's. Its Nash-MTL solves a sequence of programs with a general
solver, which costs tens of milliseconds a step; the problem is convex, and ours takes one.

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

from training.errors import DivergedError, RecipeError
from training.networks.multi_exit import MultiExitNetwork
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
    """How large its gradients get, and what its weights are for."""

    max_norm: NonNegativeFloat = Field(
        1.0, description="of the stages' gradient (0: no bound; as in the authors' code: 1)"
    )
    weigh_heads: bool = Field(
        default=False, description="whether a's parts weigh the heads' gradients, too"
    )


class Combined(Objective):
    """One gradient from the Jacobian [exits, shared parameters] of all losses."""

    one_backward = False

    def __init__(self, network: MultiExitNetwork, label_smoothing: float) -> None:
        super().__init__(network, label_smoothing)
        self._so_far: Tensor | None = None  # the Jacobian of the step's earlier micro-batches

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """See Objective.

        Raises:
            DivergedError: gradients that are no numbers, or whose squares are none.
        """
        jacobian = gradient_of_each(losses, network)
        if self._so_far is not None:
            jacobian += self._so_far
        self._so_far = None if last else jacobian
        if last:
            if not jacobian.norm().isfinite():
                raise DivergedError("lr: the gradients are not finite any more; lower it")
            add_flat(network, self.combine(jacobian))

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
        self.rule = _rules("cvxpy", "clarabel").CAGrad(c=options.radius)

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        combined: Tensor = self.rule(jacobian)
        return combined * self.exits


class NashMTL(Combined):
    """The bargaining solution: weights a with G a = 1 / a for the Gram matrix G.

    The stages get sum_i a_i g_i, cut to the norm `max_norm`, which is not the scale of a sum over
    exits. The bargain is over what exits share; each head gets its exit's gradient unweighted, as
    in joint training, and is bounded by nothing. The authors' code weighs whole losses, and so the
    heads', too, and cuts the shared gradient alone: `weigh_heads`.
    """

    def __init__(
        self, options: NashMTLOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.max_norm = options.max_norm
        self.weigh_heads = options.weigh_heads
        self.weights = torch.ones(self.exits)  # of the last step

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """See Objective."""
        super().backward(losses, network, last=last)
        if last and self.weigh_heads:
            for weight, head in zip(self.weights, network.heads, strict=True):
                for parameter in head.parameters():
                    if parameter.grad is not None:  # that of all the step's micro-batches
                        parameter.grad *= weight

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        self.weights = bargain(jacobian @ jacobian.T)
        combined = self.weights @ jacobian
        if self.max_norm:
            combined *= (self.max_norm / combined.norm().clamp(min=1e-12)).clamp(max=1)
        return combined


def bargain(gram: Tensor) -> Tensor:
    """The positive weights a with G a = 1 / a, G being `gram` at norm 1.

    They are the minimum of the convex function a' G a / 2 - sum log a, found by Newton's
    method; a little is added to the diagonal, lest opposed gradients send it to infinity.

    Args:
        gram: products of the exits' gradients, [exits, exits].

    Returns:
        [exits], on the device and of the dtype of `gram`.
    """
    given = gram.detach().cpu().double()
    scaled = given / given.norm().clamp(min=1e-30) + 1e-6 * torch.eye(len(given))
    weights: Tensor = scaled.diagonal().rsqrt()
    for _ in range(50):
        slope = scaled @ weights - 1 / weights
        step = torch.linalg.solve(scaled + torch.diag(weights**-2), slope)
        decrement = (slope @ step).clamp(min=0).sqrt()
        weights = weights - step / (1 + decrement)  # damped: the function is self-concordant
        if decrement < 1e-9:
            break
    return weights.to(gram)
