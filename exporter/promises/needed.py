"""The number of images that a promise takes. Pure Python."""

from __future__ import annotations

from offramp.bundle.betting import images_needed_for_gap
from offramp.bundle.binomial import images_needed
from offramp.bundle.promises import Level


def images_that_certify(level: Level, largest: float, losses: int = 0) -> int:
    """Return the fewest images whose test certifies a level, in total or at an exit.

    A promise of accuracy is counted without losses and gains.

    Args:
        level: The promise.
        largest: Largest p-value that certifies it.
        losses: Images with a loss.

    Raises:
        ValueError: More than `offramp.bundle.binomial.MOST_IMAGES` are needed.
    """
    if level.kind == "accuracy":
        return images_needed_for_gap(level.epsilon, largest)
    return images_needed(level.epsilon, largest, losses)
