"""The backbones by name. To add one, add a file beside this one and a line in BACKBONES."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.errors import RecipeError
from training.networks.backbones.msdnet import MSDNetConfig, msdnet
from training.networks.backbones.resnet18 import ResNet18Config, resnet18
from training.networks.backbones.vgg import VGGConfig, vgg
from training.networks.backbones.vit import ViTConfig, vit
from training.networks.multi_exit import MultiExitNetwork
from training.record import FrozenModel


@dataclass(frozen=True, slots=True)
class Backbone:
    """A family of networks: the class of its config, and the function that builds it."""

    config: type[FrozenModel]
    build: Callable[[Any, int], MultiExitNetwork]


BACKBONES: Mapping[str, Backbone] = {
    "msdnet": Backbone(MSDNetConfig, msdnet),
    "resnet18": Backbone(ResNet18Config, resnet18),
    "vgg": Backbone(VGGConfig, vgg),
    "vit": Backbone(ViTConfig, vit),
}


def build_network(backbone: str, shape: Mapping[str, object], classes: int) -> MultiExitNetwork:
    """Build a network with fresh weights.

    Args:
        backbone: name in BACKBONES.
        shape: fields of the backbone's config that differ from the defaults.
        classes: number of labels.

    Raises:
        RecipeError: the backbone is unknown, or a field of `shape` is unknown or out of range.
    """
    if backbone not in BACKBONES:
        raise RecipeError(f"backbone: {backbone!r} is not one of {', '.join(BACKBONES)}")
    family = BACKBONES[backbone]
    return family.build(family.config.parse(shape, option="shape", name=backbone), classes)
