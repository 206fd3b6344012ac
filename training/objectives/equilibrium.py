"""Gradient equilibrium: every stage sees gradients as large as one exit's.

Source: Li et al., "Improved Techniques for Training Adaptive Deep Networks" (ICCV 2019),
section 3.1. Where n exits lie deeper than exit i, its gradient counts 1 / (n + 1) at the
branch and theirs, which come as one, n / (n + 1). The heads keep their own in full.

Features of several scales (MSDNet's) all count so, as the section has it. The authors' released
code rescales the last scale alone, the one that the exit reads, and hands the finer ones on with
the deeper exits' gradients in full; `scales` chooses.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from training.networks.multi_exit import Branch, MultiExitNetwork
from training.objectives.objective import Objective
from training.record import Record
from training.surgery.feature_map import FeatureMap


class EquilibriumOptions(Record):
    """What is rescaled."""

    scales: Literal["all", "last"] = Field(
        "all", description="whose gradients are: all features', or only what the exit reads"
    )


class Equilibrium(Objective):
    """The sum of cross-entropies with gradients rescaled at every branch."""

    def __init__(
        self, options: EquilibriumOptions, network: MultiExitNetwork, label_smoothing: float
    ) -> None:
        super().__init__(network, label_smoothing)
        network.at_branch = balance if options.scales == "all" else balance_last


def balance_last(branch: Branch, deeper: int) -> Branch:
    """As `balance`, but for the finer scales, which keep their gradients."""
    *finer, _ = branch.onward
    balanced = balance(branch, deeper)
    return Branch([*finer, balanced.onward[-1]], balanced.to_exit)


def balance(branch: Branch, deeper: int) -> Branch:
    """The same values with rescaled gradients, `deeper` exits being still to come."""
    share = 1 / (deeper + 1)
    return Branch(
        [scale_gradient(one, deeper * share) for one in branch.onward],
        scale_gradient(branch.to_exit, share),
    )


def scale_gradient(features: Tensor | FeatureMap, factor: float) -> Tensor | FeatureMap:
    """The same values; their gradient comes out `factor` times as large."""
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
