"""MSDNet: a multi-scale dense network with an exit after every stage.

Source: Huang et al., "Multi-Scale Dense Networks for Resource Efficient Image
Classification" (ICLR 2018). Layer arithmetic as in the reference PyTorch port that
Deep Feature Surgery (ECCV 2024) builds on.

Features are a list of tensors [N, C_s, H_s, W_s], finest scale first. An exit reads the coarsest
scale, so surgery splits that scale alone. In training it can be a FeatureMap, which these layers
read like a tensor.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from offramp.bounds import PositiveInt
from training.networks.multi_exit import AveragePool, Features, MultiExitNetwork
from training.record import FrozenModel


class MSDNetConfig(FrozenModel):
    """The shape of an MSDNet. The defaults are the paper's CIFAR network (7 exits).

    Its ImageNet network is the shape of the recipe `imagenet-paper`.
    """

    exits: PositiveInt = Field(7, description="number of stages, each with an exit")
    base: PositiveInt = Field(4, description="dense layers in the first stage")
    step: PositiveInt = Field(2, description="dense layers in each further stage")
    step_mode: Literal["even", "lin_grow"] = Field(
        "even", description="`even`: `step` layers in each later stage; `lin_grow`: more each time"
    )
    stem: Literal["cifar", "imagenet"] = Field(
        "cifar",
        description="cifar: 3x3 at full resolution. imagenet: 7x7 and pooling, at a quarter",
    )
    channels: PositiveInt = Field(16, description="channels of the finest scale at the start")
    growth: PositiveInt = Field(16, description="channels a dense layer adds to the finest scale")
    growth_factors: tuple[PositiveInt, ...] = Field(
        (1, 2, 4),
        min_length=1,
        description="width of each scale, in multiples of `channels` and `growth`",
    )
    bottleneck_factors: tuple[PositiveInt, ...] = Field(
        (1, 2, 4), description="width of each scale's 1x1, in multiples of its 3x3's output"
    )
    bottleneck: bool = Field(default=True, description="put a 1x1 before each 3x3")
    reduction: float = Field(0.5, gt=0, le=1, description="share of channels a transition keeps")
    head_channels: PositiveInt | None = Field(
        128, description="width of the exit heads (null: the width of their input)"
    )
    head_dropout: float = Field(
        0.5, ge=0, lt=1, description="dropout before the linear layer of each exit"
    )

    @model_validator(mode="after")
    def _one_factor_a_scale(self) -> Self:
        if len(self.growth_factors) != len(self.bottleneck_factors):
            raise ValueError("growth_factors and bottleneck_factors need one entry for each scale")
        return self

    @property
    def scales(self) -> int:
        """Number of scales at the input."""
        return len(self.growth_factors)

    def layers_per_stage(self) -> list[int]:
        """Return the dense layers of each stage: `base`, then `step` (even) or more (lin_grow)."""
        if self.step_mode == "even":
            return [self.base, *([self.step] * (self.exits - 1))]
        return [self.base, *(self.step * (i - 1) + 1 for i in range(2, self.exits + 1))]


def conv_bn_relu(cin: int, cout: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Build a convolution without bias, a batch norm and a ReLU."""
    return [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    ]


def dense_branch(cin: int, cout: int, stride: int, bottleneck: int | None) -> nn.Sequential:
    """Build a branch of a dense layer: an optional 1x1 to `bottleneck * cout`, then a 3x3."""
    inner = cin if bottleneck is None else min(cin, bottleneck * cout)
    squeeze = [] if bottleneck is None else conv_bn_relu(cin, inner, 1)
    return nn.Sequential(*squeeze, *conv_bn_relu(inner, cout, 3, stride))


def stem(config: MSDNetConfig) -> nn.Sequential:
    """Build the stem: image to the finest scale, at full resolution or (ImageNet) a quarter."""
    width = config.channels * config.growth_factors[0]
    if config.stem == "cifar":
        return nn.Sequential(*conv_bn_relu(3, width, 3))
    # with a bias, as in the reference code
    return nn.Sequential(
        nn.Conv2d(3, width, 7, 2, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    )


class FirstLayer(nn.Module):
    """Image to one tensor for each scale, each computed from the finer one with stride 2."""

    def __init__(self, config: MSDNetConfig) -> None:
        super().__init__()
        widths = [config.channels * f for f in config.growth_factors]
        coarser = (nn.Sequential(*conv_bn_relu(cin, cout, 3, 2)) for cin, cout in pairwise(widths))
        self.layers = nn.ModuleList([stem(config), *coarser])

    def forward(self, features: Features) -> Features:
        """Map [N, 3, H, W] (a list of one) to a list of `scales` tensors."""
        out, x = [], features[0]
        for layer in self.layers:
            x = layer(x)
            out.append(x)
        return out


class DenseScale(nn.Module):
    """A scale of a dense layer. It appends channels from the finer scale and from its own."""

    def __init__(self, down: nn.Sequential | None, normal: nn.Sequential) -> None:
        super().__init__()
        self.down = down
        self.normal = normal

    def forward(self, finer: Tensor | None, same: Tensor) -> Tensor:
        """Concatenate `same`, the strided branch (if present) and the normal branch."""
        if self.down is None:
            return torch.cat([same, self.normal(same)], dim=1)
        assert finer is not None
        return torch.cat([same, self.down(finer), self.normal(same)], dim=1)


class DenseLayer(nn.Module):
    """A dense layer over all remaining scales. It drops the finest if scales_out < scales_in."""

    def __init__(self, config: MSDNetConfig, width: int, scales_in: int, scales_out: int) -> None:
        super().__init__()
        self.dropped = scales_in - scales_out
        offset = config.scales - scales_out
        self.scales = nn.ModuleList(
            self._scale(config, width, s, has_finer=self.dropped > 0 or s > offset)
            for s in range(offset, config.scales)
        )

    @staticmethod
    def _scale(config: MSDNetConfig, width: int, s: int, *, has_finer: bool) -> DenseScale:
        factors, squeeze = config.growth_factors, config.bottleneck_factors
        cin, cout = width * factors[s], config.growth * factors[s]
        own = squeeze[s] if config.bottleneck else None
        if not has_finer:
            return DenseScale(None, dense_branch(cin, cout, 1, own))
        half = cout // 2
        finer = squeeze[s - 1] if config.bottleneck else None
        down = dense_branch(width * factors[s - 1], half, 2, finer)
        return DenseScale(down, dense_branch(cin, cout - half, 1, own))

    def forward(self, features: Features) -> Features:
        """Map `scales_in` tensors to `scales_out`, each with `growth * factor` more channels."""
        kept = features[self.dropped :]
        finer = features[:-1] if self.dropped else [None, *features[:-1]]
        return [scale(f, x) for scale, f, x in zip(self.scales, finer, kept, strict=True)]


class Transition(nn.Module):
    """1x1 convolutions that shrink every scale to `reduction` of its channels."""

    def __init__(self, config: MSDNetConfig, width: int, scales: int) -> None:
        super().__init__()
        out = math.floor(config.reduction * width)
        self.scales = nn.ModuleList(
            nn.Sequential(*conv_bn_relu(width * f, out * f, 1))
            for f in config.growth_factors[-scales:]
        )

    def forward(self, features: Features) -> Features:
        """Apply the 1x1 of each scale."""
        return [scale(x) for scale, x in zip(self.scales, features, strict=True)]


class Head(nn.Module):
    """Exit head: two strided 3x3 convolutions on the coarsest scale, a pool, a linear layer.

    The pool of the reference code has a window of 2 x 2, which covers the whole map for its images
    (32 or 224 pixels). This one covers the whole map for images of any size.
    """

    def __init__(self, cin: int, config: MSDNetConfig, classes: int) -> None:
        super().__init__()
        width = config.head_channels or cin
        self.body = nn.Sequential(
            *conv_bn_relu(cin, width, 3, 2), *conv_bn_relu(width, width, 3, 2), AveragePool()
        )
        self.dropout = nn.Dropout(config.head_dropout)
        self.linear = nn.Linear(width, classes)

    def pooled(self, x: Tensor) -> Tensor:
        """Compute the vector [N, head_channels] that the linear layer reads, before dropout."""
        return torch.flatten(self.body(x), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map the coarsest scale [N, C, h, w] to logits [N, classes]."""
        logits: Tensor = self.linear(self.dropout(self.pooled(x)))
        return logits


def msdnet(config: MSDNetConfig, classes: int) -> MultiExitNetwork:
    """Build an MSDNet with an exit after every stage.

    The finest scales are dropped at equal intervals of depth ("prune max" in the reference
    code). A transition follows each drop.
    """
    per_stage = config.layers_per_stage()
    interval = math.ceil(sum(per_stage) / config.scales)
    stages, heads, width, depth = [], [], config.channels, 0
    for stage, count in enumerate(per_stage):
        layers: list[nn.Module] = [FirstLayer(config)] if stage == 0 else []
        for _ in range(count):
            depth += 1
            scales_in = config.scales - max(0, depth - 2) // interval
            scales_out = config.scales - (depth - 1) // interval
            layers.append(DenseLayer(config, width, scales_in, scales_out))
            width += config.growth
            if scales_in > scales_out:
                layers.append(Transition(config, width, scales_out))
                width = math.floor(config.reduction * width)
        stages.append(nn.Sequential(*layers))
        heads.append(Head(width * config.growth_factors[-1], config, classes))
    return MultiExitNetwork(stages, heads)
