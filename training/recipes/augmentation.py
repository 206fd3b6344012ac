"""The fields of a recipe that change the training images at random."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from offramp.bounds import NonNegativeFloat, NonNegativeInt
from training.recipes.network import Fraction
from training.record import FrozenModel


class AugmentationFields(FrozenModel):
    """The random changes to training images."""

    crop: Literal["shifted", "resized"] = Field(
        "shifted",
        description="augmentation of training images: shifted by at most --shift pixels, or "
        "resized parts of any size and shape",
    )
    crop_area: float = Field(
        0.08,
        gt=0,
        le=1,
        description="smallest area of a resized part, as a share of the image's, more than 0 to 1. "
        "The papers have 0.08; 0.7 suits fine-tuning",
    )
    shift: NonNegativeInt = Field(4, description="maximum shift of training images, in pixels")
    flip: bool = Field(default=True, description="mirror training images in every other epoch")
    cutout: NonNegativeInt = Field(
        0, description="side of the square that is painted grey, in pixels (0: no square)"
    )
    color_jitter: Fraction = Field(
        0.0,
        description="largest relative change of brightness, contrast and saturation, each drawn "
        "for each image, 0 to 1 (0: no change)",
    )
    mixup: NonNegativeFloat = Field(
        0.0,
        description="parameter of the beta distribution of mixup's shares: 0.2 is usual (0: no "
        "mixup)",
    )
