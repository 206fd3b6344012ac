"""ResNet-18 for small images: four exits, the first three behind an attention module.

Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016). Exits as in
Zhang et al., "SCAN: A Scalable Neural Networks Framework Towards Compact and Efficient Models"
(NeurIPS 2019) and the released code of Deep Feature Surgery (ECCV 2024).

Features are a list of one tensor [N, C, H, W].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from offramp.bounds import PositiveInt
from training.networks.multi_exit import GlobalAveragePool, MultiExitNetwork, SingleTensorStage
from training.record import FrozenModel

EXITS = 4


class ResNet18Config(FrozenModel):
    """The shape of a ResNet-18. The default is the paper's CIFAR network."""

    channels: PositiveInt = Field(
        64, description="channels of the first stage; each later stage has twice as many"
    )


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Build a convolution without bias and a batch norm."""
    return [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(cout),
    ]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 where the shape changes."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(cin, cout, 3, stride), nn.ReLU(inplace=True), *conv_bn(cout, cout, 3)
        )
        same = stride == 1 and cin == cout
        self.shortcut = nn.Sequential(*([] if same else conv_bn(cin, cout, 1, stride)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, cin, H, W] to [N, cout, H / stride, W / stride]."""
        out: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return out


def separable(cin: int, cout: int) -> list[nn.Module]:
    """Build two depthwise separable convolutions. The first halves height and width."""
    return [
        nn.Conv2d(cin, cin, 3, 2, 1, groups=cin, bias=False),
        *conv_bn(cin, cin, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(cin, cin, 3, 1, 1, groups=cin, bias=False),
        *conv_bn(cin, cout, 1),
        nn.ReLU(inplace=True),
    ]


class Attention(nn.Module):
    """Features times a mask in [0.5, 1] of their own shape, computed at half the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask = nn.Sequential(
            *separable(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        mask = F.interpolate(self.mask(x), size=x.shape[-2:], mode="bilinear")
        return x * torch.sigmoid(mask)


def head(channels: int, widest: int, classes: int) -> nn.Sequential:
    """Build an exit head: attention, separable convolutions up to `widest` channels, pool, linear.

    The last exit reads features with `widest` channels. Its head is a pool and a linear layer.
    """
    layers: list[nn.Module] = [Attention(channels)] if channels < widest else []
    while channels < widest:
        layers += separable(channels, 2 * channels)
        channels *= 2
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Linear(widest, classes))


def resnet18(config: ResNet18Config, classes: int) -> MultiExitNetwork:
    """Build a ResNet-18 with an exit after each of its four groups of blocks.

    The stem is one 3x3 convolution at full resolution. Images can have any size.
    """
    widths = [config.channels * 2**k for k in range(EXITS)]
    stem = [*conv_bn(3, widths[0], 3), nn.ReLU(inplace=True)]
    stages, cin = [], widths[0]
    for k, cout in enumerate(widths):
        blocks = [Residual(cin, cout, 1 if k == 0 else 2), Residual(cout, cout, 1)]
        stages.append(SingleTensorStage(*(stem if k == 0 else []), *blocks))
        cin = cout
    network = MultiExitNetwork(stages, [head(width, widths[-1], classes) for width in widths])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
