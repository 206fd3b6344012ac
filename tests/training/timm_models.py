"""Small networks of timm, and the skip of their tests where timm cannot be imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import pytest


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
    Small("deit_tiny_patch16_224", {"image_size": 32, "exits": [0.5]}, 32),
    Small("vit_small_patch14_dinov2", {"image_size": 28, "blocks": [6]}, 28),
)


def import_timm() -> Any:
    """Import timm, or skip the module of the caller with the reason."""
    try:
        return import_module("timm")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs the extra timm ({error}); make test-timm", allow_module_level=True)
