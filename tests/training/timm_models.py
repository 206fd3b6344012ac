"""Small networks of timm, for tests with the mark `timm`."""

from __future__ import annotations

from typing import NamedTuple


class Small(NamedTuple):
    """A network of timm, its shape, and the size of its images in pixels."""

    name: str
    shape: dict[str, object]
    size: int


SMALL = (
    Small("resnet18", {"hidden": 16}, 32),
    Small("convnext_atto", {"head": "linear", "exits": [0.5]}, 32),
    Small("efficientnet_b0", {"hidden": 16, "exits": [0.5]}, 32),
    Small("mobilenetv3_small_050", {"hidden": 16}, 32),
    Small("vit_tiny_patch16_224", {"image_size": 32, "blocks": [6]}, 32),
    Small("deit_tiny_patch16_224", {"image_size": 32, "exits": [0.5]}, 32),
    Small("vit_small_patch14_dinov2", {"image_size": 28, "blocks": [6]}, 28),
)
