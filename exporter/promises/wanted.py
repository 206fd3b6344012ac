"""The promises to make, and the images that they take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.promises import read_levels
from exporter.promises.fixed_sequence import level_of
from exporter.promises.needed import images_that_certify
from exporter.promises.points import FEWEST_AT_AN_EXIT
from offramp.bundle.promises import Level
from offramp.data.held_out import in_random_order

TUNED_SHARE = 0.2  # of the images, that the path is chosen on
TUNED_LEAST = 500  # or half of the images, if that is less


@dataclass(frozen=True, slots=True)
class Wanted:
    """The promises to make.

    Attributes:
        levels: Their kinds and largest probabilities of a loss.
        delta: Probability that one of them does not hold.
        seed: Seed of the division of the images.
    """

    levels: tuple[Level, ...]
    delta: float = 0.05
    seed: int = 0

    @property
    def level(self) -> float:
        """Return the largest p-value that certifies one of them."""
        return level_of(self.delta, len(self.levels))


def wanted_from(promises: str | None, delta: float) -> Wanted | None:
    """Return the promises of the options `--promises` and `--delta`. `None`: no promise is wanted.

    Raises:
        ExportError: `--promises` is not a list of promises, or one takes too many images.
    """
    return None if promises is None else Wanted(read_levels(promises, delta), delta)


@dataclass(frozen=True, slots=True)
class Parts:
    """The positions of images that the path is chosen on, and of those that certify it, int64."""

    tuned: NDArray[np.int64]
    certified: NDArray[np.int64]


def divide(images: int, seed: int) -> Parts:
    """Divide images at random into those to choose the path on and those to certify it on."""
    tuned, order = _tuned(images), in_random_order(images, seed)
    return Parts(order[:tuned], order[tuned:])


def _tuned(images: int) -> int:
    """Return how many of the images the path is chosen on."""
    return max(int(images * TUNED_SHARE), min(images // 2, TUNED_LEAST))


def images_wanted(wanted: Wanted, level: Level, losses: int = 0) -> int:
    """Return the number of images, of both parts, that a promise takes with so many losses.

    A promise of accuracy is counted without losses and gains.
    """
    certified = images_that_certify(level, wanted.level, losses)
    if level.kind == "exit":
        certified *= FEWEST_AT_AN_EXIT
    low, high = certified, 2 * certified + 1
    while low < high:  # the larger part grows with the number of images
        middle = (low + high) // 2
        if middle - _tuned(middle) < certified:
            low = middle + 1
        else:
            high = middle
    return low


def calibration_rows(wanted: Wanted | None, images: int) -> NDArray[np.int64] | None:
    """Return the images to fit temperatures on, so that nothing is fitted on those that certify.

    `None` means all of them, because they certify nothing.
    """
    if wanted is None or not possible(wanted, images):
        return None
    return divide(images, wanted.seed).tuned


def possible(wanted: Wanted, images: int) -> bool:
    """Return whether so many images can certify one of the promises."""
    return any(images >= images_wanted(wanted, level) for level in wanted.levels)
