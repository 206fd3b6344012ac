"""Gradient equilibrium: the gradients at every stage are as large as those of one exit.

Source: Li et al., "Improved Techniques for Training Adaptive Deep Networks" (ICCV 2019),
section 3.1. Where n exits are deeper than exit i, the gradient of exit i is multiplied by
1 / (n + 1) at the branch. The sum of the gradients of the deeper exits is multiplied by
n / (n + 1). The heads keep their own gradients unchanged.

Features of several scales (MSDNet) are all rescaled, as in that section. The authors' released
code rescales the last scale alone, which the exit reads, and leaves the gradients of the finer
scales unchanged. The option `scales` chooses.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from training.networks.multi_exit import Branch, MultiExitNetwork
from training.objectives.objective import Objective
from training.record import FrozenModel
from training.surgery.feature_map import FeatureMap


class EquilibriumOptions(FrozenModel):
    """Option that says which gradients are rescaled."""

    scales: Literal["all", "last"] = Field(
        "all", description="gradients that are rescaled: of all scales, or of the exit's scale"
    )


class Equilibrium(Objective):
    """The sum of cross-entropies, with gradients rescaled at every boundary."""

    def __init__(
        self, options: EquilibriumOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        self.boundary = (balance if options.scales == "all" else balance_last,)


def balance_last(branch: Branch, k: int, deeper: int) -> Branch:
    """Rescale gradients as `balance` does, but not those of the finer scales."""
    *finer, _ = branch.onward
    balanced = balance(branch, k, deeper)
    return Branch([*finer, balanced.onward[-1]], balanced.to_exit)


def balance(branch: Branch, _k: int, deeper: int) -> Branch:
    """Rescale the gradients of a branch that has `deeper` exits after it."""
    share = 1 / (deeper + 1)
    return Branch(
        [scale_gradient(one, deeper * share) for one in branch.onward],
        scale_gradient(branch.to_exit, share),
    )


def scale_gradient(features: Tensor | FeatureMap, factor: float) -> Tensor | FeatureMap:
    """Return the same values, with a gradient that is multiplied by `factor`."""
    if isinstance(features, FeatureMap):
        runs = tuple(run if isinstance(run, int) else _scaled(run, factor) for run in features.runs)
        return FeatureMap(features.values, runs)
    return _scaled(features, factor)


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    made: Tensor = _Scale.apply(tensor, factor)  # type: ignore[no-untyped-call] # apply has no types in torch
    return made


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:  # noqa: ANN401 (torch's)
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradient * ctx.factor, None
