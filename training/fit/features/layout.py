"""The layout of an image's features: those of all exits, one after another in one row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from training.networks.multi_exit import MultiExitNetwork


@dataclass(frozen=True, slots=True)
class Layout:
    """Shapes of the features that each head reads, in order of depth, without the batch axis."""

    shapes: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Number of values in a row."""
        return sum(map(math.prod, self.shapes))

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First value of each exit in a row, and the first one after it."""
        return list(pairwise(accumulate(map(math.prod, self.shapes), initial=0)))

    def pack(self, features: Sequence[Tensor]) -> Tensor:
        """Return rows [N, length] of features [N, *shape] of each exit."""
        assert tuple(tuple(each.shape[1:]) for each in features) == self.shapes
        return torch.cat([each.flatten(1) for each in features], dim=1)

    def unpack(self, rows: Tensor) -> list[Tensor]:
        """Return the features [N, *shape] of each exit from rows [N, length]."""
        return [self.of_exit(k, rows) for k in range(len(self.shapes))]

    def of_exit(self, k: int, rows: Tensor) -> Tensor:
        """Return the features [N, *shape] of exit k (from 0) from rows [N, length]."""
        start, end = self.bounds[k]
        return rows[:, start:end].reshape(-1, *self.shapes[k])


@torch.inference_mode()
def trunk_features(network: MultiExitNetwork, images: Tensor) -> list[Tensor]:
    """Compute what each head reads, [N, *shape], from normalised images [N, 3, H, W].

    The network must be in eval mode.
    """
    features, found = list[Tensor](), list[Tensor]()
    for k, stage in enumerate(network.stages):
        features = stage(network.inputs_of(k, images, features))
        found.append(features[-1])
    return found


def layout_of(network: MultiExitNetwork, size: int) -> Layout:
    """Return the layout for images of size x size pixels. The network must be in eval mode."""
    image = next(network.stages.parameters()).new_zeros(1, 3, size, size)
    return Layout(tuple(tuple(each.shape[1:]) for each in trunk_features(network, image)))
