"""The fields of a recipe that say how the loss is minimised."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from offramp.bounds import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from training.recipes.network import Fraction
from training.record import FrozenModel

OptimizerName = Literal["sgd", "muon", "adamw"]
Schedule = Literal["cosine", "linear", "multistep"]
BatchNormMode = Literal["train", "frozen"]
Freeze = Literal["none", "trunk"]


class OptimizationFields(FrozenModel):
    """The optimizer, its rates and their schedule."""

    epochs: PositiveInt = Field(300, description="passes over the training images")
    batch_size: PositiveInt = Field(500, description="images in one step, over all processes")
    micro_batch: PositiveInt | None = Field(
        None,
        description="maximum images in one forward pass. Gradients are summed over a batch (null: "
        "the whole batch at once)",
    )
    optimizer: OptimizerName = Field(
        "sgd", description="optimizer of the convolutions. adamw and sgd fine-tune well"
    )
    lr: PositiveFloat = Field(0.1, description="peak learning rate of SGD or AdamW")
    trunk_lr: PositiveFloat | None = Field(
        None,
        description="peak learning rate of the stages; that of the heads is --lr (null: --lr)",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the learning rate from each stage to the one before it, more than 0 "
        "to 1 (1: no factor)",
    )
    muon_lr: PositiveFloat = Field(0.1, description="peak relative step of Muon")
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="momentum of SGD and Muon, and AdamW's first beta, 0 to less than 1",
    )
    weight_decay: NonNegativeFloat = Field(5e-4, description="weight decay under SGD or AdamW")
    clip_norm: NonNegativeFloat = Field(
        0.0,
        description="largest norm of the gradient of all parameters. A longer gradient is scaled "
        "to it before the step (0: no limit)",
    )
    decayed: Literal["all", "matrices"] = Field(
        "all",
        description="parameters that decay under SGD: all, as in the papers, or weights of "
        "convolutions and linear layers alone, as always under AdamW",
    )
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
    precision: Literal["fp32", "bf16"] = Field("fp32", description="precision of the forward pass")
    batch_norm: BatchNormMode = Field(
        "train",
        description="batch norm of the stages in training: by the batch, or frozen, by the running "
        "statistics, which then do not change",
    )
    freeze: Freeze = Field(
        "none",
        description="part of the network that keeps its weights and statistics: none, or trunk: "
        "all stages of pretrained weights, and with --keep-head the head of the last exit",
    )
    cache_features: bool = Field(
        default=False,
        description="with --freeze trunk: compute the features of each image, and with --flip of "
        "its mirror image, once, keep them on disk in --cache, and train the heads on them",
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay per step of the moving average of the weights, which is evaluated and "
        "exported, 0 to less than 1 (0: no average). 0.99 or 0.999 are usual",
    )
    patience: NonNegativeInt = Field(
        0,
        description="epochs without a better held-out accuracy, in the mean over exits, after "
        "which the run ends. The weights of the best epoch are exported (0: no early stop)",
    )
