"""Exits of a network that was made without them: their places in a chain of blocks, and heads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.multi_exit import GlobalAveragePool
from training.record import FrozenModel

InsideShare = Annotated[float, Field(gt=0, lt=1)]
HeadName = Literal["convolution", "linear"]
ExitsBy = Literal["flops", "time"]


class ExitsConfig(FrozenModel):
    """The exits of a backbone that is cut at the ends of its blocks."""

    exits: tuple[InsideShare, ...] = Field(
        (0.4, 0.65, 0.8),
        description="shares of the trunk's flops, or of its time (see exits_by), after which there "
        "is an exit, at the nearest end of a block, as in 0.4,0.65,0.8. One more exit is at the "
        "end",
    )
    exits_by: ExitsBy = Field(
        "flops",
        description="what `exits` are shares of. time: CPU time of one thread for one image, "
        "measured when the run starts. The checkpoint has the chosen `blocks`, so nothing is "
        "measured again",
    )
    blocks: tuple[PositiveInt, ...] | None = Field(
        None,
        description="numbers of the blocks with an exit after them, instead of `exits` (null: "
        "chosen by `exits`)",
    )
    head: HeadName = Field(
        "convolution",
        description="head of every exit but the last, for feature maps. convolution: 1x1, norm, "
        "activation, pool, linear. linear: pool, linear",
    )
    hidden: PositiveInt = Field(512, description="channels after the 1x1 convolution of a head")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the last linear layers")

    @field_validator("exits", "blocks", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        """Read a list without brackets, as a command line has it."""
        if isinstance(given, str):
            return given.split(",")
        one = isinstance(given, int | float) and not isinstance(given, bool)
        return (given,) if one else given


def exit_blocks(config: ExitsConfig, flops: Sequence[int]) -> tuple[int, ...]:
    """Return the number of blocks up to each exit, the last exit included. Measures no time.

    Args:
        config: wanted exits.
        flops: flops of each block, in order.

    Raises:
        RecipeError: there are fewer blocks, or two exits are at the same place, or they are to be
            chosen by time.
    """
    if config.blocks is not None:
        return _checked(config.blocks, len(flops), "blocks", config.blocks)
    if config.exits_by == "time":
        raise RecipeError(
            "shape.exits_by: time needs a measurement, which only the start of `offramp train` "
            "makes; give shape.blocks, or flops"
        )
    return nearest_blocks(config, flops)


def nearest_blocks(config: ExitsConfig, costs: Sequence[float]) -> tuple[int, ...]:
    """Return the number of blocks up to each exit, the last exit included, by shares of a cost.

    Args:
        config: wanted exits.
        costs: cost of each block, in order: flops or seconds.

    Raises:
        RecipeError: there are fewer blocks, or two exits are at the same place.
    """
    to_block = list(accumulate(costs))
    shares = [cost / to_block[-1] for cost in to_block]
    chosen = [
        1 + min(range(len(costs)), key=lambda k, wanted=wanted: abs(shares[k] - wanted))  # type: ignore[misc] # mypy cannot infer this lambda
        for wanted in config.exits
    ]
    return _checked(chosen, len(costs), "exits", config.exits)


def _checked(
    blocks: Sequence[int], count: int, field: str, given: Sequence[float]
) -> tuple[int, ...]:
    """Return the places of all exits, or raise RecipeError that names the field."""
    places = (*blocks, count)
    if any(first >= second for first, second in pairwise(places)):
        raise RecipeError(
            f"shape.{field}: {list(given)} put exits after blocks {list(blocks)} of {count}; they "
            "must rise and end before the last block"
        )
    return places


def grouped(blocks: Sequence[nn.Module], places: Sequence[int]) -> list[list[nn.Module]]:
    """Return the blocks of each stage, from the numbers of blocks up to each exit."""
    return [list(blocks[start:end]) for start, end in pairwise((0, *places))]


def map_head(config: ExitsConfig, channels: int, classes: int, activation: nn.Module) -> nn.Module:
    """Build the head of an exit for feature maps [N, channels, H, W]."""
    width, layers = channels, list[nn.Module]()
    if config.head == "convolution":
        width = config.hidden
        layers = [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), activation]
    linear = nn.Linear(width, classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(*layers, GlobalAveragePool(), nn.Dropout(config.dropout), linear)


class TokenHead(nn.Module):
    """Exit head for tokens: layer norm, the class token or the mean of the patches, linear.

    Args:
        width: length of a token's vector.
        classes: number of labels.
        prefix: number of tokens before those of the patches. The first is the class token.
        pool: input of the linear layer.
        dropout: dropout before the linear layer.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        prefix: int,
        pool: Literal["token", "mean"],
        dropout: float,
    ) -> None:
        super().__init__()
        self.read = slice(0, 1) if pool == "token" else slice(prefix, None)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, tokens, width] to logits [N, classes]."""
        pooled = self.norm(x[:, self.read]).mean(dim=1)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits
