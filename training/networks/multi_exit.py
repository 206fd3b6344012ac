"""A multi-exit network: stages in a row, an exit head after each, surgery between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.surgery.boundary import Surgery
from training.surgery.feature_map import FeatureMap

Features = list[Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """What leaves a boundary: features for the next stage, and the last of them for the exit."""

    onward: Sequence[Tensor | FeatureMap]
    to_exit: Tensor | FeatureMap


def straight(branch: Branch, _deeper: int) -> Branch:
    """Nothing done."""
    return branch


class Normalize(nn.Module):
    """Images as they are stored to what the first stage reads.

    `mean` and `std` are per channel, of pixels in [0, 1]; they travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        """[N, H, W, 3], uint8 or float in [0, 255], to float32 [N, 3, H, W]."""
        # channels first, or each pixel's three are reckoned by themselves: slow in ONNX Runtime
        scaled = images.permute(0, 3, 1, 2).to(torch.float32).div(255)
        return (scaled - self.mean[:, None, None]) / self.std[:, None, None]


class SingleTensorStage(nn.Module):
    """A stage of a backbone whose features are one tensor: layers in a row."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Features) -> Features:
        """A list of one tensor to a list of one tensor."""
        (x,) = features
        return [self.layers(x)]


class GlobalAveragePool(nn.Module):
    """The mean of each channel; torch's adaptive pool exports as a gather."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C]."""
        return x.mean(dim=(2, 3))


class AveragePool(nn.Module):
    """The mean of each channel, by torch's average pool with all of the image in one window."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, 1, 1]."""
        return F.avg_pool2d(x, x.shape[-2:])


class MultiExitNetwork(nn.Module):
    """Stages in a row with an exit after each.

    A stage maps the features of the boundary before it (a list of [N, C, H, W] or
    [N, tokens, C]; for the first, the image alone) to those of its own. Head k maps the last
    of them to logits.

    `surgery` is the cut at every boundary, or one for each of them; `at_branch` what an
    objective does there, given the number of deeper exits.

    Args:
        stages: one module for each stage.
        heads: one module for each exit.
        channel_dim: dimension of the features that surgery parts.
    """

    def __init__(
        self, stages: Sequence[nn.Module], heads: Sequence[nn.Module], channel_dim: int = 1
    ) -> None:
        super().__init__()
        assert len(stages) == len(heads) > 0
        self.channel_dim = channel_dim
        self.normalize = Normalize()
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)
        self.surgery: Surgery | Sequence[Surgery] = Surgery("joint")
        self.at_branch: Callable[[Branch, int], Branch] = straight

    @property
    def exits(self) -> int:
        """Number of exits."""
        return len(self.heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [N, 3, H, W] to logits [N, classes], one for each exit."""
        features: Sequence[Tensor | FeatureMap] = [x]
        logits: list[Tensor] = []
        for k, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True), 1):
            features = stage(features)
            to_exit = features[-1]
            if k < self.exits:
                branch = self._branch(features, k)
                features, to_exit = branch.onward, branch.to_exit
            logits.append(head(to_exit))
        return logits

    def surgery_at(self, k: int) -> Surgery:
        """The cut at the boundary after stage k, counted from 1."""
        return self.surgery[k - 1] if isinstance(self.surgery, Sequence) else self.surgery

    def _branch(self, features: Sequence[Tensor | FeatureMap], k: int) -> Branch:
        split = self.surgery_at(k).split(features[-1], self.channel_dim)
        return self.at_branch(Branch([*features[:-1], split.onward], split.to_exit), self.exits - k)
