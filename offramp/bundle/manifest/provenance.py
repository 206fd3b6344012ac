"""The origin of the weights: a training run, and the published weights that it started from."""

from __future__ import annotations

from pydantic import Field

from offramp.bundle.values import Filter, FrozenRecord, is_none


class PretrainingImages(FrozenRecord):
    """The images that published weights were trained on."""

    size: int = Field(gt=0, description="height and width in pixels")
    mean: tuple[float, float, float] = Field(
        description="subtracted from each channel, of pixels in [0, 1]"
    )
    std: tuple[float, float, float] = Field(description="divisor of each channel")
    filter: Filter = Field(description="filter that resized the images")
    margin: float = Field(gt=0, le=1, description="central share of the shorter side that was kept")


class PretrainedWeights(FrozenRecord):
    """The published weights that training started from."""

    source: str = Field(min_length=1, description="package with its version, or name of the file")
    licence: str = Field(min_length=1, description="as their source states it")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of their file or tensors")
    images: PretrainingImages | None = Field(
        None,
        description="the images that they were trained on, as their source states it",
        exclude_if=is_none,  # bundles of earlier versions do not have it
    )


class Provenance(FrozenRecord):
    """The training run that gave the weights."""

    recipe: str
    dataset: str
    train_images: int = Field(ge=0, description="0: the networks were trained elsewhere")
    epochs: int = Field(ge=0)
    seed: int
    commit: str
    config: dict[str, object]
    weights: PretrainedWeights | None = Field(
        None, description="where training started from (null: random)", exclude_if=is_none
    )
