"""The recipe of a run: all options that determine its result, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from offramp.bundle.manifest import Filter
from training.recipes.weights import PLAIN, Resizing, Share, Weights
from training.record import FrozenModel
from training.surgery.variants import Variant

BackboneName = Literal["efficientnet_lite", "msdnet", "resnet18", "vgg", "vit"]
TimmName = Annotated[str, Field(pattern=r"^timm:[A-Za-z0-9_.]+$")]
ObjectiveName = Literal[
    "joint",
    "equilibrium",
    "distillation",
    "block-dependent",
    "pcgrad",
    "cagrad",
    "nash-mtl",
    "meta-gf",
]
OptimizerName = Literal["sgd", "muon"]
Schedule = Literal["cosine", "linear", "multistep"]
HeldOutSplit = Literal["by_class", "random"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Recipe(FrozenModel):
    """Options that determine the result of a run. A checkpoint contains them."""

    data: str = Field(
        "cifar10",
        description="images: folder with a folder of images for each class, table (CSV, JSONL) or "
        "parquet file, folder of parquet files, or name on the Hugging Face hub",
    )
    size: PositiveInt = Field(32, description="height and width of the images, in pixels")
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
    weights: Weights | None = Field(
        None, description="pretrained weights that the run starts from (null: random)"
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
    backbone: BackboneName | TimmName = Field(
        "msdnet", description="family of networks, or timm:NAME for a network of timm"
    )
    shape: dict[str, object] = Field(
        {}, description="fields of the backbone's config that differ from its defaults"
    )
    variant: Variant = Field("released", description="rule that says which gradients surgery stops")
    beta: Fraction | tuple[Fraction, ...] = Field(
        0.5,
        description="fraction of the channels that deeper exits train, 0 to 1, or a list with one "
        "fraction for each boundary: '[0.3, 0.5]'",
    )
    objective: ObjectiveName = Field(
        "joint", description="method that makes one gradient of the losses of all exits"
    )
    objective_options: dict[str, object] = Field(
        {}, description="fields of the objective's options that differ from its defaults"
    )
    epochs: PositiveInt = Field(300, description="passes over the training images")
    batch_size: PositiveInt = Field(500, description="images in one step, over all processes")
    micro_batch: PositiveInt | None = Field(
        None,
        description="maximum images in one forward pass. Gradients are summed over a batch (null: "
        "the whole batch at once)",
    )
    optimizer: OptimizerName = Field("sgd", description="optimizer of the convolutions")
    lr: PositiveFloat = Field(0.1, description="peak learning rate of SGD")
    muon_lr: PositiveFloat = Field(0.1, description="peak relative step of Muon")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="momentum of either optimizer, 0 to less than 1"
    )
    weight_decay: NonNegativeFloat = Field(5e-4, description="weight decay under SGD")
    schedule: Schedule = Field("multistep", description="course of the learning rate")
    milestones: tuple[Fraction, ...] = Field(
        (250 / 300, 280 / 300, 295 / 300),
        description="fractions of the run after which multistep divides the learning rate by 10",
    )
    warmup: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the run in which the learning rate rises, 0 to less than 1",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that is spread evenly over all labels, 0 to less than 1",
    )
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
    small_size: PositiveInt | None = Field(
        None, description="size of the images in the first epochs, in pixels (null: --size)"
    )
    small_epochs: NonNegativeInt = Field(0, description="epochs that train at --small-size")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="precision of the forward pass")
    seed: int = Field(
        0,
        ge=0,
        lt=2**32,
        description="seed of the weights, the order, the augmentation and the held-out images",
    )

    @classmethod
    def recorded(cls, fields: Mapping[str, object]) -> dict[str, object]:
        """Return the fields of a recipe in a file. Files of version 0.1 were split at random."""
        return {"held_out_split": "random", "held_out": 5000, **fields}

    @property
    def resizing(self) -> Resizing:
        """Return the resizing of the images: as given, as the weights need it, or plain."""
        default = self.weights.resizing if self.weights else PLAIN
        return Resizing(
            self.filter or default.filter, default.margin if self.margin is None else self.margin
        )

    def continuing(self, saved: Recipe) -> Recipe:
        """Return this recipe with the pretrained weights of the saved recipe.

        The held-out images, too, are those of a saved recipe of version 0.1.
        """
        recipe = self.model_copy(update={"weights": saved.weights})
        if saved.held_out_split == "by_class":
            return recipe
        held_out = self.held_out or saved.held_out
        return recipe.model_copy(update={"held_out_split": "random", "held_out": held_out})

    @model_validator(mode="after")
    def _shift_fits(self) -> Self:
        if self.shift >= self.size:
            raise ValueError(
                f"shift: {self.shift} pixels move an image of {self.size} out of view; give at "
                f"most {self.size - 1}"
            )
        return self
