"""Deep Feature Surgery: who may train which channels of the features at an exit.

Source: "Deep Feature Surgery: Towards Accurate and Efficient Multi-Exit Networks"
(ECCV 2024, arXiv 2407.13986), feature partitioning and feature referencing.

At the boundary after stage i the features f, of C channels, are parted into f+ (the first
k = round(beta * C) channels) and f- (the rest). f+ is shared with the deeper exits, f-
belongs to exit i. With referencing both readers still see all of f, but the gradient of the
other one's part is stopped, so the forward pass does not change:

    variant        handed to stage i+1    handed to exit i
    joint          f                      f
    released       [f+, sg(f-)]           f                 (the released code's MSDNet, ViT)
    paper          [f+, sg(f-)]           [sg(f+), f-]      (the paper's figure 2)
    unreferenced   [f+, 0]                [0, f-]           (no referencing)

What is stopped stays so until a layer mixes the channels, and layers that read it save the
work on it (see `feature_map`). In transformers the layer norm that follows mixes them at once,
so there, and where nothing takes a gradient, surgery hands on plain tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.errors import RecipeError
from training.surgery.feature_map import FeatureMap, part
from training.surgery.gradient_views import cut, stop
from training.surgery.variants import Variant

__all__ = ["Split", "Surgery", "Variant"]


class Split(NamedTuple):
    """What one boundary hands on."""

    onward: Tensor | FeatureMap
    to_exit: Tensor | FeatureMap


@dataclass(frozen=True, slots=True)
class Surgery:
    """The cut at every boundary but the last exit's.

    Args:
        variant: which gradients are stopped (see the module's table).
        beta: share of the channels that deeper exits may train, in [0, 1].

    Raises:
        RecipeError: beta is not in [0, 1].
    """

    variant: Variant = "released"
    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise RecipeError(f"beta: {self.beta} is not a share of channels; give 0 to 1")

    @property
    def changes_values(self) -> bool:
        """Whether it does more than stop gradients."""
        return self.variant == "unreferenced"

    def shared(self, channels: int) -> int:
        """Size of f+; Python's rounding, half to even, as the released code has it."""
        return round(self.beta * channels)

    def split(self, features: Tensor | FeatureMap, dim: int = 1) -> Split:
        """Part features into what goes on and what the exit reads, each of the same shape.

        Args:
            features: [N, C, H, W], or a tensor of any shape with the channels in dimension `dim`.
            dim: 1 for convolutional networks, -1 for the tokens of transformers.
        """
        if isinstance(features, Tensor) and (dim != 1 or not features.requires_grad):
            return Split(*self.mask(features, dim))
        if self.variant == "joint":
            return Split(features, features)
        channels = features.shape[1]
        k = self.shared(channels)
        whole, onward, to_exit = part(features, k)
        if self.changes_values:
            return Split(_zeroed(onward, k, channels), _zeroed(to_exit, 0, k))
        return Split(onward, to_exit if self._stops_at_exit else whole)

    def mask(self, features: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
        """As `split`, in plain tensors, which save a layer that reads them no work."""
        if self.variant == "joint" or not (self.changes_values or features.requires_grad):
            return features, features
        channels = features.shape[dim]
        k = self.shared(channels)
        whole, plus, minus = cut(features, k, dim)
        if self.changes_values:
            onward = torch.cat([plus, torch.zeros_like(minus)], dim=dim)
            return onward, torch.cat([torch.zeros_like(plus), minus], dim=dim)
        values = features.detach()
        onward = stop(values, [(0, k)], [plus], dim)
        if not self._stops_at_exit:
            return onward, whole
        return onward, stop(values, [(k, channels)], [minus], dim)

    @property
    def _stops_at_exit(self) -> bool:
        # At beta = 1 the released code, too, leaves the exit nothing to train but its head.
        return self.variant != "released" or self.beta == 1


def _zeroed(half: Tensor | FeatureMap, start: int, end: int) -> Tensor | FeatureMap:
    return half.zeroed(start, end) if isinstance(half, FeatureMap) else half
