"""The backbones by name. To add one, add a file beside this one and a line in BACKBONES."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from training.errors import RecipeError
from training.networks.backbones.efficientnet_lite import (
    EfficientNetLiteConfig,
    efficientnet_lite,
    lite_blocks,
    origin,
)
from training.networks.backbones.msdnet import MSDNetConfig, msdnet
from training.networks.backbones.resnet18 import ResNet18Config, resnet18
from training.networks.backbones.timm_network import (
    PREFIX,
    TimmConfig,
    timm_blocks,
    timm_network,
)
from training.networks.backbones.timm_weights import timm_weights
from training.networks.backbones.vgg import VGGConfig, vgg
from training.networks.backbones.vit import ViTConfig, vit
from training.networks.multi_exit import MultiExitNetwork
from training.networks.weights import Pretrained, read_weights
from training.record import FrozenModel


@dataclass(frozen=True, slots=True)
class Backbone:
    """A family of networks.

    Attributes:
        config: Class of its config.
        build: Function that builds a network with fresh weights, from config and number of labels.
        weights: Function that reads pretrained weights, from config and `--weights`.
        blocks: Function that builds the trunk as a chain of blocks, from config, if exits can be
            at the ends of blocks (`ExitsConfig`).
    """

    config: type[FrozenModel]
    build: Callable[[Any, int], MultiExitNetwork]
    weights: Callable[[Any, str], Pretrained] | None = None
    blocks: Callable[[Any], list[nn.Module]] | None = None


def _lite_weights(config: EfficientNetLiteConfig, source: str) -> Pretrained:
    return read_weights(source, origin(config))


BACKBONES: Mapping[str, Backbone] = {
    "efficientnet_lite": Backbone(
        EfficientNetLiteConfig, efficientnet_lite, _lite_weights, lite_blocks
    ),
    "msdnet": Backbone(MSDNetConfig, msdnet),
    "resnet18": Backbone(ResNet18Config, resnet18),
    "vgg": Backbone(VGGConfig, vgg),
    "vit": Backbone(ViTConfig, vit),
}


def family_of(backbone: str) -> Backbone:
    """Return the family of a backbone: one of BACKBONES, or a network of timm.

    Raises:
        RecipeError: The backbone is unknown.
    """
    if backbone.startswith(PREFIX):
        name = backbone.removeprefix(PREFIX)
        return Backbone(
            TimmConfig,
            partial(timm_network, name),
            partial(timm_weights, name),
            partial(timm_blocks, name),
        )
    if backbone not in BACKBONES:
        known = ", ".join(BACKBONES)
        raise RecipeError(f"backbone: {backbone!r} is not one of {known}, or timm:NAME")
    return BACKBONES[backbone]


def build_network(backbone: str, shape: Mapping[str, object], classes: int) -> MultiExitNetwork:
    """Build a network with fresh weights.

    Args:
        backbone: Name in BACKBONES, or `timm:NAME`.
        shape: Fields of the backbone's config that differ from the defaults.
        classes: Number of labels.

    Raises:
        RecipeError: The backbone is unknown, or a field of `shape` is unknown or out of range.
    """
    family, config = _configured(backbone, shape)
    return family.build(config, classes)


def pretrained_weights(
    backbone: str, shape: Mapping[str, object], source: str, *, keep_head: bool
) -> Pretrained:
    """Read pretrained weights for a network.

    Args:
        backbone: Name in BACKBONES, or `timm:NAME`.
        shape: Fields of the backbone's config that differ from the defaults.
        source: `package`, `hub` for timm, or the path of a file.
        keep_head: The weights' own classifier becomes that of the last exit.

    Raises:
        RecipeError: The backbone has no weights, or they cannot be read.
    """
    family, config = _configured(backbone, shape)
    if family.weights is None:
        known = ", ".join(name for name, each in BACKBONES.items() if each.weights)
        raise RecipeError(f"--weights: backbone {backbone} has none; {known} can start from some")
    found = family.weights(config, source)
    record = found.record.model_copy(update={"keep_head": keep_head})
    return Pretrained(found.tensors, record)


def _configured(backbone: str, shape: Mapping[str, object]) -> tuple[Backbone, FrozenModel]:
    family = family_of(backbone)
    return family, family.config.parse(shape, option="shape", name=backbone)
