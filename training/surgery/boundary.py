"""Deep Feature Surgery: choose which exits train which channels of the features.

Source: "Deep Feature Surgery: Towards Accurate and Efficient Multi-Exit Networks"
(ECCV 2024, arXiv 2407.13986), feature partitioning and feature referencing.

At the boundary after stage i the features f, of C channels, are split into f+ (the first
k = round(beta * C) channels) and f- (the rest). f+ is shared with the deeper exits. f-
belongs to exit i. With referencing, both readers still see all of f, but each stops the gradient
of the part that belongs to the other. The forward pass does not change:

    variant        input of stage i+1     input of exit i
    joint          f                      f
    released       [f+, sg(f-)]           f                 (the released code's MSDNet, ViT)
    paper          [f+, sg(f-)]           [sg(f+), f-]      (the paper's figure 2)
    unreferenced   [f+, 0]                [0, f-]           (no referencing)

A stopped channel stays stopped until a layer mixes the channels. Layers that read stopped
channels skip their share of the backward pass (see `feature_map`). In transformers the next layer
norm mixes the channels at once. There, and where no gradient is recorded, surgery returns plain
tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from training.errors import RecipeError
from training.surgery.feature_map import FeatureMap, split_channels
from training.surgery.gradient_views import split_views, stop_gradient
from training.surgery.variants import Variant

__all__ = ["Boundary", "Split", "Surgery", "Variant"]


class Split(NamedTuple):
    """Output of surgery at one boundary: for the next stage, and for the exit."""

    onward: Tensor | FeatureMap
    to_exit: Tensor | FeatureMap


class Boundary(Protocol):
    """Surgery as a network and its export call it. `Surgery` is fixed, `ConflictSurgery` is not."""

    @property
    def variant(self) -> Variant:
        """Rule that says which gradients are stopped."""

    @property
    def changes_values(self) -> bool:
        """True if the forward pass changes, not only the gradients."""

    def split(self, features: Tensor | FeatureMap, dim: int = 1) -> Split:
        """Split features into the input of the next stage and that of the exit."""

    def mask(self, features: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
        """Split features into plain tensors."""


@dataclass(frozen=True, slots=True)
class Surgery:
    """Surgery at a boundary between two stages.

    Args:
        variant: Rule that says which gradients are stopped (see the module's table).
        beta: Share of the channels that deeper exits train, in [0, 1].

    Raises:
        RecipeError: Beta is not in [0, 1].
    """

    variant: Variant = "released"
    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise RecipeError(f"beta: {self.beta} is not a share of channels; give 0 to 1")

    @property
    def changes_values(self) -> bool:
        """True if the forward pass changes, not only the gradients."""
        return self.variant == "unreferenced"

    def shared_channels(self, channels: int) -> int:
        """Return the size of f+, rounded half to even, as in the released code."""
        return round(self.beta * channels)

    def split(self, features: Tensor | FeatureMap, dim: int = 1) -> Split:
        """Split features into the input of the next stage and that of the exit, shapes unchanged.

        Args:
            features: [N, C, H, W], or a tensor of any shape with the channels in dimension `dim`.
            dim: Dimension of the channels: 1 in convolutional networks, -1 in transformers.
        """
        if isinstance(features, Tensor) and (dim != 1 or not features.requires_grad):
            return Split(*self.mask(features, dim))
        if self.variant == "joint":
            return Split(features, features)
        channels = features.shape[1]
        k = self.shared_channels(channels)
        whole, onward, to_exit = split_channels(features, k)
        if self.changes_values:
            return Split(_zeroed(onward, k, channels), _zeroed(to_exit, 0, k))
        return Split(onward, to_exit if self.stops_at_exit else whole)

    def mask(self, features: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
        """Split as `split` does, into plain tensors, which save no work in the backward pass."""
        if self.variant == "joint" or not (self.changes_values or features.requires_grad):
            return features, features
        channels = features.shape[dim]
        k = self.shared_channels(channels)
        whole, plus, minus = split_views(features, k, dim)
        if self.changes_values:
            onward = torch.cat([plus, torch.zeros_like(minus)], dim=dim)
            return onward, torch.cat([torch.zeros_like(plus), minus], dim=dim)
        values = features.detach()
        onward = stop_gradient(values, [(0, k)], [plus], dim)
        if not self.stops_at_exit:
            return onward, whole
        return onward, stop_gradient(values, [(k, channels)], [minus], dim)

    @property
    def stops_at_exit(self) -> bool:
        """True if the exit does not train the first channels."""
        # at beta = 1 the released code, too, lets the exit train its head alone
        return self.variant != "released" or self.beta == 1


def _zeroed(features: Tensor | FeatureMap, start: int, end: int) -> Tensor | FeatureMap:
    return features.zeroed(start, end) if isinstance(features, FeatureMap) else features
