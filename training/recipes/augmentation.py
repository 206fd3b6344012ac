"""The fields of a recipe that change the training images at random."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt

from training.record import FrozenModel


class AugmentationFields(FrozenModel):
    """The random changes to training images."""

    crop: Literal["shifted", "resized"] = Field(
        "shifted",
        description="augmentation of training images: shifted by at most --shift pixels, or "
        "resized parts of any size and shape",
    )
    shift: NonNegativeInt = Field(4, description="maximum shift of training images, in pixels")
    flip: bool = Field(default=True, description="mirror training images in every other epoch")
    cutout: NonNegativeInt = Field(
        0, description="side of the square that is painted grey, in pixels (0: no square)"
    )
