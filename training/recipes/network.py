"""The fields of a recipe that describe the network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from offramp.bounds import PositiveFloat, PositiveInt, Side
from training.recipes.weights import Weights
from training.record import FrozenModel
from training.surgery.variants import SurgeryRule, Variant

BackboneName = Literal["efficientnet_lite", "msdnet", "resnet18", "vgg", "vit"]
TimmName = Annotated[str, Field(pattern=r"^timm:[A-Za-z0-9_.]+$")]
FirstWeights = Literal["own", "shared"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class NetworkFields(FrozenModel):
    """The network of a run, and its surgery."""

    backbone: BackboneName | TimmName = Field(
        "msdnet", description="family of networks, or timm:NAME for a network of timm"
    )
    shape: dict[str, object] = Field(
        {}, description="fields of the backbone's config that differ from its defaults"
    )
    weights: Weights | None = Field(
        None, description="pretrained weights that the run starts from (null: random)"
    )
    first_size: Side | None = Field(
        None,
        description="run the network on the image reduced to this size first, in pixels, then from "
        "the image at --size (null: only at --size)",
    )
    first_exit: PositiveInt | None = Field(
        None,
        description="number of the last exit at --first-size. Exits before it are left out at "
        "--size (null: the last exit of the network)",
    )
    first_weights: FirstWeights = Field(
        "own",
        description="weights of the stages at --first-size: own, or shared with those at --size, "
        "but for batch norm",
    )
    variant: Variant = Field("released", description="rule that says which gradients surgery stops")
    beta: Fraction | tuple[Fraction, ...] = Field(
        0.5,
        description="fraction of the channels that deeper exits train, 0 to 1, or a list with one "
        "fraction for each boundary: '[0.3, 0.5]'",
    )
    additive_heads: Fraction = Field(
        0.0,
        description="share of the logits of the exit before it that each exit adds to its own, 0 "
        "to 1 (0: none; BoostNet: 0.5)",
    )
    surgery_boundaries: PositiveInt | None = Field(
        None, description="number of boundaries with surgery, from the first on (null: all)"
    )
    surgery_rule: SurgeryRule = Field(
        "fixed",
        description="how much surgery is done at a boundary: fixed, as variant and beta say, or "
        "conflict: in proportion to the measured conflict of the exit with the deeper exits, from "
        "none to as much as with fixed",
    )
    conflict_scale: PositiveFloat | None = Field(
        2.0,
        description="with rule conflict: ratio of the lengths of two exits' gradients up to which "
        "their scales are not in conflict (null: only the directions count)",
    )
    conflict_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="with rule conflict: decay per step of the average of the measured conflict, "
        "0 to less than 1 (0: the last step alone)",
    )
