"""Pretrained weights that a run starts from, and how images are resized for them."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from offramp.bounds import Side
from offramp.bundle.values import Filter
from training.record import FrozenModel

Share = Annotated[float, Field(gt=0, le=1)]
Deviation = Annotated[float, Field(gt=0)]


class Resizing(NamedTuple):
    """The filter that resizes images, and the central share of the shorter side that is kept."""

    filter: Filter
    margin: float


PLAIN = Resizing("bilinear", 1.0)


class Weights(FrozenModel):
    """Pretrained weights: their origin, and the images that they were trained on."""

    source: str = Field(description="package with its version, or name of the file")
    licence: str = Field(description="licence, as the source states it")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="of the file, or of the tensors (null: a recipe names weights that no run has "
        "read yet)",
    )
    size: Side = Field(description="height and width of the images, in pixels")
    mean: tuple[float, float, float] = Field(description="of each channel, of pixels in [0, 1]")
    std: tuple[Deviation, Deviation, Deviation] = Field(description="of each channel")
    filter: Filter = Field(description="filter that resized the images")
    margin: Share = Field(description="central share of the shorter side that was kept")
    keep_head: bool = Field(
        default=False, description="the last exit starts from the classifier of these weights"
    )

    @property
    def resizing(self) -> Resizing:
        """Return the resizing of the images that the weights were trained on."""
        return Resizing(self.filter, self.margin)
