"""Rules of multi-task learning that combine the gradients of all exits into one.

PCGrad and CAGrad are those of torchjd. Nash-MTL is our own: torchjd's solves a sequence of programs
with a general solver, which costs tens of milliseconds a step. The problem is convex, and Newton's
method solves it in about 1 ms.

Sources: PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning" (NeurIPS 2020). CAGrad:
Liu et al., "Conflict-Averse Gradient Descent" (NeurIPS 2021). Nash-MTL: Navon et al.,
"Multi-Task Learning as a Bargaining Game" (ICML 2022).
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch
from pydantic import Field
from torch import Tensor

from offramp.bounds import NonNegativeFloat
from training.errors import DivergedError, RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.objectives.objective import Objective
from training.objectives.per_exit import add_flat, gradient_of_each
from training.record import FrozenModel


def _rules(*needed: str) -> ModuleType:
    """Import torchjd's rules, or raise RecipeError if it or a library in `needed` is missing."""
    try:
        for module in needed:
            import_module(module)
        return import_module("torchjd.aggregation")
    except ImportError as error:
        raise RecipeError(
            f"objective: it needs {error.name}; pip install 'offramp[objectives]'"
        ) from error


class PCGradOptions(FrozenModel):
    """Options of PCGrad, which has no fields."""


class CAGradOptions(FrozenModel):
    """Options of CAGrad."""

    radius: NonNegativeFloat = Field(
        0.4, description="radius of the ball around the mean gradient, in its norm (the paper's c)"
    )


class NashMTLOptions(FrozenModel):
    """Options of Nash-MTL."""

    max_norm: NonNegativeFloat = Field(
        1.0, description="largest norm of the stages' gradient (0: no limit; authors' code: 1)"
    )
    weigh_heads: bool = Field(
        default=False, description="multiply the gradients of the heads by the weights a, too"
    )


class Combined(Objective):
    """Base of the rules: one gradient from the Jacobian [exits, shared parameters] of all losses.

    Subclasses overwrite `combine`.
    """

    one_backward = False

    def __init__(self, network: MultiExitNetwork, label_smoothing: float) -> None:
        super().__init__(network, label_smoothing)
        self._accumulated: Tensor | None = None  # Jacobian of earlier micro-batches of the step

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """See Objective.

        Raises:
            DivergedError: Gradients are not finite, or overflow when squared.
        """
        jacobian = gradient_of_each(losses, network)
        if self._accumulated is not None:
            jacobian += self._accumulated
        self._accumulated = None if last else jacobian
        if last:
            if not jacobian.norm().isfinite():
                raise DivergedError("lr: the gradients are no longer finite; lower it")
            add_flat(network, self.combine(jacobian))

    def combine(self, jacobian: Tensor) -> Tensor:
        """Combine [exits, n] into [n], on the scale of the sum over exits."""
        return jacobian.sum(dim=0)


class PCGrad(Combined):
    """Projection of each exit's gradient off the gradients that it conflicts with, then the sum.

    The order of the projections is random.
    """

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
        with torch.random.fork_rng(devices=[]):  # the same order in all processes and on resume
            torch.manual_seed(int(self.steps))
            combined: Tensor = self.rule(jacobian)
        self.steps += 1
        return combined


class CAGrad(Combined):
    """The gradient that helps the worst exit most, within a ball around the mean gradient."""

    def __init__(
        self, options: CAGradOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        # torchjd's limit of 1e-4 gives no gradient at all if one exit's is so much shorter
        self.rule = _rules("cvxpy", "clarabel").CAGrad(c=options.radius, norm_eps=1e-12)

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        combined: Tensor = self.rule(jacobian)
        return combined * self.exits


class NashMTL(Combined):
    """The bargaining solution: weights a with G a = 1 / a for the Gram matrix G.

    The gradient of the stages is sum_i a_i g_i, scaled down to the norm `max_norm`. This is not the
    scale of a sum over exits. The bargain is over the shared parameters. Each head gets the
    gradient of its exit unweighted and unlimited, as in joint training. The authors' code weighs
    whole losses, so also the gradients of the heads, and limits the shared gradient alone. The
    option `weigh_heads` does the same.
    """

    def __init__(
        self, options: NashMTLOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.max_norm = options.max_norm
        self.weigh_heads = options.weigh_heads
        self.weights = torch.ones(self.exits)  # a, in the last step

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """See Objective."""
        super().backward(losses, network, last=last)
        if last and self.weigh_heads:
            for weight, head in zip(self.weights, network.heads, strict=True):
                for parameter in head.parameters():
                    if parameter.grad is not None:  # summed over the micro-batches of the step
                        parameter.grad *= weight

    def combine(self, jacobian: Tensor) -> Tensor:
        """See Combined."""
        self.weights = bargain(jacobian @ jacobian.T)
        combined = self.weights @ jacobian
        if self.max_norm:
            combined *= (self.max_norm / combined.norm().clamp(min=1e-12)).clamp(max=1)
        return combined


def bargain(gram: Tensor) -> Tensor:
    """Solve G a = 1 / a for positive weights a, where G is `gram` scaled to norm 1.

    The weights are the minimum of the convex function a' G a / 2 - sum log a. Newton's method finds
    it. 1e-6 is added to the diagonal of G, because opposed gradients have no finite solution.

    Args:
        gram: Products of the exits' gradients, [exits, exits].

    Returns:
        The weights [exits], on the device and of the dtype of `gram`.
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
