"""VGG with an exit after every convolution.

Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition" (ICLR 2015). As in the released code of Deep Feature Surgery (ECCV 2024): the exits,
the order convolution, ReLU, batch norm, pool, and a bias in the first convolution alone.

Features are a list of one tensor [N, C, H, W].
"""

from __future__ import annotations

from pydantic import Field
from torch import nn

from offramp.bounds import PositiveInt
from training.networks.multi_exit import GlobalAveragePool, MultiExitNetwork, SingleTensorStage
from training.record import FrozenModel

# Channels double from group to group, up to this multiple of those of the first group.
WIDEST = 8


class VGGConfig(FrozenModel):
    """The shape of a VGG. The defaults are VGG-7 (6 exits). VGG-16: `convolutions` 2-2-3-3-3."""

    convolutions: tuple[PositiveInt, ...] = Field(
        (2, 2, 2), min_length=1, description="convolutions in each group; a max-pool ends a group"
    )
    channels: PositiveInt = Field(
        64, description="channels of the first group; each later group doubles them, up to 8 times"
    )


def vgg(config: VGGConfig, classes: int) -> MultiExitNetwork:
    """Build a VGG with an exit after every convolution, for images of any size."""
    stages: list[nn.Module] = []
    heads, cin = [], 3
    for group, count in enumerate(config.convolutions):
        cout = config.channels * min(2**group, WIDEST)
        for position in range(count):
            last = position == count - 1
            stages.append(_stage(cin, cout, bias=not stages, pool=last))
            heads.append(_head(cout, classes))
            cin = cout
    return MultiExitNetwork(stages, heads)


def _stage(cin: int, cout: int, *, bias: bool, pool: bool) -> SingleTensorStage:
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, 3, padding=1, bias=bias),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(cout),
    ]
    return SingleTensorStage(*layers, *([nn.MaxPool2d(2)] if pool else []))


def _head(channels: int, classes: int) -> nn.Sequential:
    """Build a head, [N, C, H, W] to logits [N, classes]: global average pool, linear layer."""
    return nn.Sequential(GlobalAveragePool(), nn.Linear(channels, classes, bias=False))
