"""Recipes: every option of a run in one frozen record, and the runs that have a name."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from training.record import FrozenModel
from training.surgery.boundary import Variant

Kind = Literal["sgd", "muon"]
Schedule = Literal["cosine", "linear", "multistep"]
Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(FrozenModel):
    """All that decides what a run does; a checkpoint carries it."""

    data: str = Field(
        "cifar10", description="hub name, parquet file or folder, or folder of images by class"
    )
    size: PositiveInt = Field(32, description="height and width of the images, in pixels")
    held_out: PositiveInt = Field(
        5000, description="training images put aside for thresholds and temperatures"
    )
    backbone: str = Field("msdnet", description="network family")
    shape: dict[str, object] = Field(
        {}, description="fields of the backbone's config that differ from its defaults"
    )
    variant: Variant = Field("released", description="which gradients surgery stops")
    beta: Share | tuple[Share, ...] = Field(
        0.5,
        description="share of channels deeper exits may train, or '[0.3, 0.5]': of each boundary",
    )
    objective: str = Field("joint", description="how the losses of all exits become a gradient")
    objective_options: dict[str, object] = Field(
        {}, description="fields of the objective's options that differ from its defaults"
    )
    epochs: PositiveInt = Field(300, description="passes over the training images")
    batch_size: PositiveInt = Field(500, description="images in one step, of all processes")
    micro_batch: PositiveInt | None = Field(
        None, description="most images in one forward pass, which are added up (null: all at once)"
    )
    optimizer: Kind = Field("sgd", description="what updates the convolutions")
    lr: PositiveFloat = Field(0.1, description="peak learning rate of SGD")
    muon_lr: PositiveFloat = Field(0.1, description="peak relative step of Muon")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of either optimizer")
    weight_decay: NonNegativeFloat = Field(5e-4, description="of weights under SGD")
    schedule: Schedule = Field("multistep", description="how the learning rate falls")
    milestones: tuple[Share, ...] = Field(
        (250 / 300, 280 / 300, 295 / 300),
        description="shares of the run after which multistep drops the learning rate tenfold",
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the run in which it rises")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="mass spread over all labels")
    crop: Literal["shifted", "resized"] = Field(
        "shifted", description="training images: moved by `shift`, or parts of any size and shape"
    )
    shift: NonNegativeInt = Field(4, description="pixels by which training images are moved")
    flip: bool = Field(default=True, description="mirror training images in every other epoch")
    cutout: NonNegativeInt = Field(0, description="side of the square greyed out, in pixels")
    small_size: PositiveInt | None = Field(
        None, description="size at which the first epochs train, in pixels"
    )
    small_epochs: NonNegativeInt = Field(0, description="epochs that train at `small_size`")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the forward pass")
    seed: int = Field(0, ge=0, lt=2**32, description="of weights, order, augmentation, split")

    @model_validator(mode="after")
    def _shift_fits(self) -> Self:
        if self.shift >= self.size:
            raise ValueError(
                f"shift: {self.shift} pixels leave nothing of images of {self.size}; give at most "
                f"{self.size - 1}"
            )
        return self


RECIPES: dict[str, Recipe] = {
    # Trains on two CPU cores; the one behind the bundle that ships.
    "cifar-compact": Recipe(
        shape={"exits": 4, "base": 1, "step": 2, "bottleneck": False, "head_dropout": 0.0},
        epochs=20,
        batch_size=256,
        optimizer="muon",
        lr=0.05,
        muon_lr=0.06,
        momentum=0.8,
        schedule="linear",
        warmup=0.1,
        label_smoothing=0.1,
        shift=3,
        small_size=24,
        small_epochs=11,
    ),
    # Small enough to train many times over on a CPU: what the objectives are compared with.
    # SGD, as in the papers, for Muon would take the scale out of gradients that they weigh.
    "cifar-comparison": Recipe(
        shape={
            "exits": 4,
            "base": 1,
            "step": 1,
            "channels": 8,
            "growth": 8,
            "bottleneck": False,
            "head_channels": 64,
            "head_dropout": 0.0,
        },
        epochs=8,
        batch_size=128,
        schedule="linear",
        warmup=0.1,
        small_size=24,
        small_epochs=6,
    ),
    # The paper's network under the same schedule as the compact one; for a GPU.
    "cifar-full": Recipe(
        shape={"head_dropout": 0.1},
        epochs=60,
        batch_size=500,
        optimizer="muon",
        lr=0.05,
        muon_lr=0.05,
        momentum=0.8,
        schedule="linear",
        warmup=0.1,
        label_smoothing=0.1,
        shift=3,
        cutout=8,
        precision="bf16",
    ),
    # The paper's own run, but for the validation split, crops padded by reflection (not grey)
    # and mirroring by turns. The paper's images are CIFAR-100's: --data cifar100.
    "cifar-paper": Recipe(),
    # As above, and without AutoAugment.
    "cifar-paper-resnet18": Recipe(
        backbone="resnet18", variant="paper", objective="distillation", cutout=16
    ),
    # As above, without AutoAugment.
    "cifar-paper-vgg7": Recipe(
        backbone="vgg",
        variant="paper",
        weight_decay=1e-4,
        cutout=16,
        milestones=(270 / 300, 280 / 300, 295 / 300),
    ),
    # The paper's own run, but for mirroring by turns, normalisation by the images' own mean and
    # deviation, and evaluation on the middle square of an image, not on 7/8 of it.
    "imagenet-paper": Recipe(
        data="ILSVRC/imagenet-1k",
        size=224,
        shape={
            "exits": 5,
            "step": 4,
            "stem": "imagenet",
            "channels": 32,
            "growth_factors": [1, 2, 4, 4],
            "bottleneck_factors": [1, 2, 4, 4],
            "head_channels": None,
        },
        epochs=90,
        batch_size=256,
        weight_decay=0.0,
        crop="resized",
        milestones=(70 / 90, 80 / 90, 85 / 90),
    ),
}
