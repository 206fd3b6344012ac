"""The rows: static networks that are trained alone, and chains that are trained as one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from benchmarks.training.comparison import Row
from benchmarks.training.photos.command import RECIPES as PHOTOS
from benchmarks.training.photos.first_size import ALONE
from training.networks.backbones.msdnet import MSDNetConfig
from training.recipes import Recipe

FULL = "full"  # the row that all others are compared with
RECIPES = (*PHOTOS, "cifar-comparison", "cifar-compact")
SHORT = "--variant joint --objective joint --shape.exits 1 --shape.base"  # an MSDNet with one exit
Rows = tuple[list[Row], list[Row]]  # static networks and chains


@dataclass(frozen=True, slots=True)
class Choice:
    """The static networks, and the smaller image of the chain.

    Attributes:
        sizes: Sizes of smaller images, in pixels.
        cuts: Numbers of the blocks that cut trunks end with.
        cut_sizes: Sizes of smaller images of cut trunks too, in pixels.
        networks: Options of training of other networks, by name.
        chains: Options of training of other chains, by name.
        first_size: Size of the smaller image of the chain.
        seeds: Runs of each row.
    """

    sizes: Sequence[int]
    cuts: Sequence[int]
    cut_sizes: Sequence[int] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    chains: Mapping[str, str] = field(default_factory=dict)
    first_size: int = 128
    seeds: int = 3


def rows_of(recipe: Recipe, choice: Choice) -> Rows:
    """Return the rows for a recipe."""
    if recipe.backbone == "msdnet":
        return _msdnet_rows(recipe, choice)
    return static_rows(choice), chain_rows(choice)


def _msdnet_rows(recipe: Recipe, choice: Choice) -> Rows:
    """Return MSDNets with the layers up to each exit, on smaller images too, and the chains."""
    *fewer, layers = accumulate(MSDNetConfig.model_validate(recipe.shape).layers_per_stage())
    options = {FULL: f"{SHORT} {layers}"}
    options |= {f"layers-{count}": f"{SHORT} {count}" for count in fewer}
    options |= {f"size-{size}": f"{SHORT} {layers} --size {size}" for size in choice.sizes}
    static = [Row(name, each, choice.seeds) for name, each in options.items()]
    chains = {"exits": "--variant joint", "exits-dfs": "--variant released", **choice.chains}
    return static, [Row(name, each, choice.seeds) for name, each in chains.items()]


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
    options = {"exits": "", "small-first": f"--first-size {choice.first_size}", **choice.chains}
    return [Row(name, each, choice.seeds) for name, each in options.items()]
