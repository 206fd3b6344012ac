"""The images of a bundle: their conversion to the first tensor, and those it was measured on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from offramp.bundle.values import Filter, FrozenRecord


def _is_whole(margin: float) -> bool:
    return margin == 1


def _are_given(labels: str) -> bool:
    return labels == "given"


class ImageInput(FrozenRecord):
    """The conversion of an image to the tensor `image`: uint8, [N, height, width, 3], RGB.

    `crop` scales the shorter side to fit and takes the centre. `stretch` changes the proportions.
    An image that has exactly this size is used as it is, without `margin`.
    """

    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    fit: Literal["crop", "stretch"]
    filter: Filter
    margin: float = Field(
        1.0,
        gt=0,
        le=1,
        description="central share of each side that is resized, after `fit`; the rest is cut off",
        exclude_if=_is_whole,  # versions without this field can read such a bundle
    )


class HeldOut(FrozenRecord):
    """The images from which temperatures, thresholds and every Estimate were computed."""

    images: int = Field(gt=0)
    source: str
    labels: Literal["given", "pseudo"] = Field(
        "given",
        description="pseudo: predictions of the last exit, so that every accuracy is agreement "
        "with it",
        exclude_if=_are_given,  # versions without this field can read such a bundle
    )
