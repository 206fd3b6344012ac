"""Exits at shares of measured time. The start of a run chooses them, and its recipe keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from training.distributed import from_first_process
from training.errors import unreadable_size
from training.networks.backbones import family_of
from training.networks.block_times import Measure, block_seconds
from training.networks.exits import ExitsConfig, nearest_blocks
from training.recipes import Recipe


def with_places(
    recipe: Recipe, device: torch.device, measure: Measure = block_seconds
) -> tuple[Recipe, str | None]:
    """Return the recipe with the blocks of its exits in `shape`, if they are chosen by time.

    A resumed run and an export read the blocks, so they measure nothing. All processes get the
    measurement of the first one.

    Args:
        recipe: Recipe of the run.
        device: Device of this process.
        measure: Function that returns the seconds of each block.

    Returns:
        The recipe, and a line that says what was measured. `None`: nothing was.

    Raises:
        RecipeError: Two exits are at the same place, or the network cannot be built or cannot read
            images of that size.
    """
    family = family_of(recipe.backbone)
    config = family.config.parse(recipe.shape, option="shape", name=recipe.backbone)
    if not isinstance(config, ExitsConfig) or family.blocks is None:
        return recipe, None
    if config.exits_by != "time" or config.blocks is not None:
        return recipe, None
    try:
        seconds = measure(family.blocks(config), recipe.size)
    except (RuntimeError, AssertionError) as error:  # timm asserts the size
        raise unreadable_size(recipe.size) from error
    seconds = from_first_process(seconds, device)
    *blocks, _last = nearest_blocks(config, seconds)
    recipe = recipe.model_copy(update={"shape": {**recipe.shape, "blocks": blocks}})
    return recipe, _description(blocks, seconds, recipe.size)


def _description(blocks: Sequence[int], seconds: Sequence[float], size: int) -> str:
    """Describe the blocks of the exits, from the time of each block of the network."""
    to_block = [*accumulate(seconds)]
    shares = ", ".join(f"{100 * to_block[k - 1] / to_block[-1]:.0f}" for k in blocks)
    return (
        f"exits by time: after blocks {', '.join(map(str, blocks))} of {len(seconds)}, at "
        f"{shares} % of {1e3 * to_block[-1]:.1f} ms of CPU time (one image of {size} pixels, one "
        "thread)"
    )
