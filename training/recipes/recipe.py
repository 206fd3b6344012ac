"""The recipe of a run: all options that determine its result, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from training.recipes.augmentation import AugmentationFields
from training.recipes.images import ImageFields
from training.recipes.network import NetworkFields
from training.recipes.optimization import OptimizationFields
from training.recipes.weights import PLAIN, Resizing

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
ClassWeights = Literal["none", "balanced"]
# Values of options that can be combined with --freeze trunk.
FOR_FROZEN_TRUNK = {
    "variant": ("joint",),
    "objective": ("joint", "distillation"),
    "optimizer": ("adamw", "sgd"),
    "additive_heads": (0.0,),
}
# Values of options that can be combined with --cache-features true.
FOR_CACHED_FEATURES = {
    "freeze": "trunk",
    "crop": "shifted",
    "shift": 0,
    "cutout": 0,
    "color_jitter": 0,
    "mixup": 0,
    "small_epochs": 0,
    "shrink": False,
}


# Pydantic orders the fields from the last base to the first.
class Recipe(AugmentationFields, OptimizationFields, NetworkFields, ImageFields):
    """Options that determine the result of a run. A checkpoint contains them."""

    objective: ObjectiveName = Field(
        "joint", description="method that makes one gradient of the losses of all exits"
    )
    objective_options: dict[str, object] = Field(
        {}, description="fields of the objective's options that differ from its defaults"
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that is spread evenly over all labels, 0 to less than 1",
    )
    class_weights: ClassWeights = Field(
        "none",
        description="weights of classes in the losses: none, or balanced, so that a class with few "
        "images has the same weight as one with many",
    )
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

        So are exits that the saved run placed by measured time, and the held-out images of a saved
        recipe of version 0.1.
        """
        update: dict[str, object] = {"weights": saved.weights}
        if self.shape.get("exits_by") == "time" and self.shape.get("blocks") is None:
            update["shape"] = {**self.shape, "blocks": saved.shape.get("blocks")}
        recipe = self.model_copy(update=update)
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

    @model_validator(mode="after")
    def _first_size_fits(self) -> Self:
        if self.first_size is None and self.first_exit is not None:
            raise ValueError("first_exit: there is no smaller image first; give --first-size")
        if self.first_size is not None and self.first_size >= self.size:
            raise ValueError(
                f"first_size: {self.first_size} is not smaller than --size, {self.size}; give less"
            )
        if self.first_size is not None and self.additive_heads:
            raise ValueError(
                "additive_heads: an exit at one size cannot add to those at another; leave out "
                "--first-size"
            )
        return self

    @model_validator(mode="after")
    def _surgery_fits(self) -> Self:
        if self.surgery_rule == "conflict" and self.variant not in ("released", "paper"):
            raise ValueError(
                f"surgery_rule: conflict does as much of a variant as is needed. {self.variant} "
                "stops no gradients of unchanged features; give --variant released or paper"
            )
        return self

    @model_validator(mode="after")
    def _frozen_trunk_fits(self) -> Self:
        if self.freeze == "none":
            return self
        given = self.model_dump(include=set(FOR_FROZEN_TRUNK))
        for option, allowed in FOR_FROZEN_TRUNK.items():
            if given[option] not in allowed:
                raise ValueError(
                    f"{option}: {given[option]} changes how a trunk is trained, and --freeze trunk "
                    f"trains only heads; give --{option.replace('_', '-')} "
                    f"{' or '.join(map(str, allowed))}"
                )
        return self

    @model_validator(mode="after")
    def _cached_features_fit(self) -> Self:
        given = self.model_dump(include=set(FOR_CACHED_FEATURES)) if self.cache_features else {}
        for option, needed in FOR_CACHED_FEATURES.items():
            if given and given[option] != needed:
                raise ValueError(
                    f"{option}: {given[option]} does not go with --cache-features true, because "
                    "each image is seen only as it is and mirrored; give "
                    f"--{option.replace('_', '-')} {str(needed).lower()}"
                )
        return self

    @model_validator(mode="after")
    def _pseudo_labels_fit(self) -> Self:
        if self.pseudo_labels and not self.cache_features:
            raise ValueError(
                "pseudo_labels: they are predictions of a frozen network from cached features; "
                "give --cache-features true and --freeze trunk"
            )
        return self

    @model_validator(mode="after")
    def _rates_fit(self) -> Self:
        option = "trunk_lr" if self.trunk_lr is not None else "layer_decay"
        if self.optimizer == "muon" and (self.trunk_lr is not None or self.layer_decay != 1):
            raise ValueError(
                f"{option}: Muon rescales all filters in its first step, so it has no rate for the "
                "trunk; give --optimizer adamw or sgd"
            )
        return self
