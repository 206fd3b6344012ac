"""The rows: static networks that are trained alone, and chains that are trained as one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.training.comparison import Row
from benchmarks.training.photos.first_size import ALONE

FULL = "full"  # the row that all others are compared with


@dataclass(frozen=True, slots=True)
class Choice:
    """The static networks, and the smaller image of the chain.

    Attributes:
        sizes: Sizes of smaller images, in pixels.
        cuts: Numbers of the blocks that cut trunks end with.
        cut_sizes: Sizes of smaller images of cut trunks too, in pixels.
        networks: Options of training of other networks, by name.
        first_size: Size of the smaller image of the chain.
        seeds: Runs of each row.
    """

    sizes: Sequence[int]
    cuts: Sequence[int]
    cut_sizes: Sequence[int] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    first_size: int = 128
    seeds: int = 3


def static_rows(choice: Choice) -> list[Row]:
    """Return the rows of networks that run as a whole for each image."""
    options = {FULL: ""}
    options |= {f"size-{size}": f"--size {size}" for size in choice.sizes}
    options |= {f"cut-{block}": f"--shape.last_block {block}" for block in choice.cuts}
    for size in choice.cut_sizes:
        for block in choice.cuts:
            name = f"size-{size}-cut-{block}"
            options[name] = f"{options[f'cut-{block}']} --size {size}"
    options |= choice.networks
    return [Row(name, f"{ALONE} {each}", choice.seeds) for name, each in options.items()]


def chain_rows(choice: Choice) -> list[Row]:
    """Return the rows of networks with exits: at full size, and with a smaller image first."""
    first = f"--first-size {choice.first_size}"
    return [Row("exits", "", choice.seeds), Row("small-first", first, choice.seeds)]
