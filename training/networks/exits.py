"""Exits of a network that was made without them: their places in a chain of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator
from torch import nn

from offramp.bounds import PositiveInt
from training.errors import RecipeError
from training.record import FrozenModel

InsideShare = Annotated[float, Field(gt=0, lt=1)]
HeadName = Literal["convolution", "coarse", "linear"]
ExitsBy = Literal["flops", "time"]
Block = TypeVar("Block")


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
    last_block: PositiveInt | None = Field(
        None,
        description="number of the block that the network ends with, with a head like those of its "
        "other exits. `exits` are shares of what is left (null: all blocks, and the network's own "
        "head)",
    )
    head: HeadName = Field(
        "convolution",
        description="head of every exit but the last, for feature maps. convolution: 1x1, norm, "
        "activation, pool, linear. coarse: separable convolutions that halve height and width "
        "twice, then pool, linear. linear: pool, linear",
    )
    hidden: PositiveInt = Field(512, description="channels after the last convolution of a head")
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
        config: Wanted exits.
        flops: Flops of each block, in order.

    Raises:
        RecipeError: There are fewer blocks, or two exits are at the same place, or they are to be
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
        config: Wanted exits.
        costs: Cost of each block, in order: flops or seconds.

    Raises:
        RecipeError: There are fewer blocks, or two exits are at the same place.
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


def kept_blocks(config: ExitsConfig, blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks that the network keeps: all, or those to its last block.

    Raises:
        RecipeError: There are fewer blocks.
    """
    if config.last_block is not None and config.last_block > len(blocks):
        raise RecipeError(
            f"shape.last_block: {config.last_block}, but the network has {len(blocks)} blocks"
        )
    return list(blocks[: config.last_block])


def grouped(blocks: Sequence[nn.Module], places: Sequence[int]) -> list[list[nn.Module]]:
    """Return the blocks of each stage, from the numbers of blocks up to each exit."""
    return [list(blocks[start:end]) for start, end in pairwise((0, *places))]
