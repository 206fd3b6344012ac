"""The fields of a recipe that choose the images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from offramp.bounds import NonNegativeInt, PositiveInt, Side
from offramp.bundle.values import Filter
from training.recipes.weights import Share
from training.record import FrozenModel

HeldOutSplit = Literal["by_class", "random"]


class ImageFields(FrozenModel):
    """The images of a run, their size and their split."""

    data: str = Field(
        "cifar10",
        description="images: folder with a folder of images for each class, table (CSV, JSONL) or "
        "parquet file, folder of parquet files, or name on the Hugging Face hub",
    )
    size: Side = Field(32, description="height and width of the images, in pixels")
    filter: Filter | None = Field(
        None,
        description="filter that resizes the images (null: that of the pretrained weights, or "
        "bilinear)",
    )
    margin: Share | None = Field(
        None,
        description="central share of the shorter side that is kept before resizing, more than 0 "
        "to 1 (null: that of the pretrained weights, or 1)",
    )
    held_out: PositiveInt | None = Field(
        None,
        description="training images that are reserved for thresholds and temperatures (null: a "
        "tenth, and at most 5,000)",
    )
    held_out_split: HeldOutSplit = Field(
        "by_class",
        description="way to choose them: from each class in proportion, or at random as in "
        "version 0.1",
    )
    pseudo_labels: bool = Field(
        default=False,
        description="train without labels: the label of each image is the prediction of the frozen "
        "network at full depth, with the classifier of --keep-head. All images in --data are read, "
        "at any depth, and labels are ignored. --cache-features true is needed",
    )
    small_size: Side | None = Field(
        None, description="size of the images in the first epochs, in pixels (null: --size)"
    )
    small_epochs: NonNegativeInt = Field(0, description="epochs that train at --small-size")
    shrink: bool = Field(
        default=False,
        description="decode and shrink images on disk once, and train on the results in --cache: "
        "for photos that are far larger than --size",
    )
