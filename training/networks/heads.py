"""Heads of exits that are added to a network: by name for feature maps, and one for tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor, nn

from training.networks.exits import ExitsConfig, HeadName
from training.networks.multi_exit import GlobalAveragePool

# A function of the channels that a head reads, those that its linear layer reads, and the
# activation. It builds the layers before the pool.
Layers = Callable[[int, int, nn.Module], list[nn.Module]]


def convolution(channels: int, width: int, activation: nn.Module) -> list[nn.Module]:
    """Build a 1x1 convolution, norm and activation: [N, channels, H, W] to [N, width, H, W]."""
    return [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), activation]


def coarse(channels: int, width: int, activation: nn.Module) -> list[nn.Module]:
    """Build layers that make coarse features of their own before the pool.

    A mean over shallow features, as in the other heads, needs classes that these features already
    separate. Here three separable 3x3 convolutions come first. The first two halve height and
    width, so the head looks at most of the image, and its costliest products are on a small map.

    Source: classifiers of Huang et al., "Multi-Scale Dense Networks for Resource Efficient Image
    Classification" (ICLR 2018), which read the coarsest scale alone, by strided convolutions. The
    classification branch of Han et al., "Dynamic Perceiver for Efficient Visual Recognition" (ICCV
    2023) has the same aim. It would be part of the trunk, which full depth pays for.

    Maps [N, channels, H, W] to [N, width, ceil(H / 4), ceil(W / 4)].
    """
    middle = max(width // 2, 1)
    return [
        *_separable(channels, middle, 2, activation),
        *_separable(middle, width, 2, activation),
        *_separable(width, width, 1, activation),
    ]


def _separable(cin: int, cout: int, stride: int, activation: nn.Module) -> list[nn.Module]:
    """Build a depthwise 3x3 convolution and a 1x1 convolution, each with norm and activation."""
    return [
        nn.Conv2d(cin, cin, 3, stride, 1, groups=cin, bias=False),
        nn.BatchNorm2d(cin),
        activation,
        *convolution(cin, cout, activation),
    ]


HEADS: Mapping[HeadName, Layers] = {
    "convolution": convolution,
    "coarse": coarse,
    "linear": lambda _channels, _width, _activation: [],
}


def map_head(config: ExitsConfig, channels: int, classes: int, activation: nn.Module) -> nn.Module:
    """Build the head of an exit for feature maps [N, channels, H, W]."""
    layers = HEADS[config.head](channels, config.hidden, activation)
    width = config.hidden if layers else channels
    linear = nn.Linear(width, classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Dropout(config.dropout), linear)


class TokenHead(nn.Module):
    """Exit head for tokens: layer norm, the class token or the mean of the patches, linear.

    Args:
        width: Length of a token's vector.
        classes: Number of labels.
        prefix: Number of tokens before those of the patches. The first is the class token.
        pool: Input of the linear layer.
        dropout: Dropout before the linear layer.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        prefix: int,
        pool: Literal["token", "mean"],
        dropout: float,
    ) -> None:
        super().__init__()
        self.read = slice(0, 1) if pool == "token" else slice(prefix, None)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, tokens, width] to logits [N, classes]."""
        pooled = self.norm(x[:, self.read]).mean(dim=1)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits
