"""A multi-exit network: stages in a row, an exit head after each, surgery between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.feature_map import FeatureMap
from training.surgery import Surgery

Features = list[Tensor]


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
        scaled = images.to(torch.float32).div(255)
        return ((scaled - self.mean) / self.std).permute(0, 3, 1, 2)


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


class MultiExitNetwork(nn.Module):
    """Stages in a row with an exit after each.

    A stage maps the features of the boundary before it (a list of [N, C, H, W] or
    [N, tokens, C]; for the first, the image alone) to those of its own. Head k maps the last
    of them to logits.

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
        self.surgery = Surgery("joint")

    @property
    def exits(self) -> int:
        """Number of exits."""
        return len(self.heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images [N, 3, H, W] to logits [N, classes], one for each exit."""
        features: list[Tensor | FeatureMap] = [x]
        logits: list[Tensor] = []
        for k, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True), 1):
            features = stage(features)
            to_exit = features[-1]
            if k < self.exits:
                features[-1], to_exit = self.surgery.split(features[-1], self.channel_dim)
            logits.append(head(to_exit))
        return logits
