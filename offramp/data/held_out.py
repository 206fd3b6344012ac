"""Hold out images by class, so that each class keeps images to train on."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from offramp.data.errors import DatasetError

SHARE = 0.1  # of the training images, unless a number is given
AT_MOST = 5000
FEW = 500  # held-out images; with fewer, accuracies and thresholds are uncertain
Indices = NDArray[np.int64]


def default_held_out(counts: NDArray[np.int64]) -> int:
    """Return the number of images to hold out: a tenth, and at most 5,000.

    There is at least one for each class that has two images or more, if that is within the bound.

    Args:
        counts: Number of training images of each class, int64 [classes].
    """
    total, several = int(counts.sum()), int((counts > 1).sum())
    possible = int(np.maximum(counts - 1, 0).sum())
    return min(AT_MOST, possible, max(math.ceil(total * SHARE), several))


def _check_possible(counts: Indices, wanted: int) -> None:
    """Check that every class keeps a training image. `counts`: images of each class."""
    possible = int(np.maximum(counts - 1, 0).sum())
    if not 0 < wanted <= possible:
        few = "give fewer (--held-out N)" if possible else "each class has only one. Add images"
        raise DatasetError(
            f"held_out: {wanted} of {counts.sum()} images leaves a class without training images. "
            f"At most {possible} can be held out; {few}"
        )


def split_by_class(targets: Indices, held_out: int | None, seed: int) -> tuple[Indices, Indices]:
    """Draw held-out images from each class, in proportion to its images.

    Each class keeps at least one training image. If there are enough images for it, each class of
    two images or more has a held-out image.

    Args:
        targets: Class of each image, int64 [N].
        held_out: Number of images to hold out. `None`: see `default_held_out`.
        seed: Seed of the draw, 0 to 2^64 - 1.

    Returns:
        The training images and the held-out images, both in random order: positions in
        `targets`, int64.

    Raises:
        DatasetError: A class would have no training image, or no image can be held out.
    """
    counts = np.bincount(targets)
    wanted = default_held_out(counts) if held_out is None else held_out
    _check_possible(counts, wanted)
    given = _in_proportion(counts, wanted)
    order = np.argsort(_random_keys(len(targets), seed), kind="stable")
    by_class = order[np.argsort(targets[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    chosen = np.zeros(len(targets), dtype=bool)
    for start, number in zip(starts.tolist(), given.tolist(), strict=True):
        chosen[by_class[start : start + number]] = True
    return order[~chosen[order]], order[chosen[order]]


def in_random_order(images: int, seed: int) -> Indices:
    """Return the positions of N images in the random order of `split_by_class`, int64 [N]."""
    return np.argsort(_random_keys(images, seed), kind="stable")


def few_warnings(held_out: int) -> Iterator[str]:
    """Yield a warning if so few images are held out that thresholds are uncertain."""
    if held_out < FEW:
        yield (
            f"warning: only {held_out:,} held-out images: accuracies are known to ±"
            f"{_points(held_out):.0f} points, and budgets can be worse than leaving at exit 1. "
            f"{FEW} held-out images would do (±{_points(FEW):.0f} points): more images, or a "
            "larger --held-out"
        )


def _points(images: int) -> float:
    """Return half of the 95 % interval of an accuracy of 50 %, in points."""
    return 98 / math.sqrt(images)


def _in_proportion(counts: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Share `wanted` out among the classes. Each class keeps at least one image."""
    several = counts > 1
    given = several.astype(np.int64) if several.sum() <= wanted else np.zeros_like(counts)
    quota = wanted * counts / counts.sum()
    lacking = [
        (float(number - share), k)
        for k, (number, share) in enumerate(zip(given.tolist(), quota.tolist(), strict=True))
    ]
    heapq.heapify(lacking)
    missing = wanted - int(given.sum())
    while missing:
        behind, k = heapq.heappop(lacking)
        if given[k] < counts[k] - 1:
            given[k] += 1
            missing -= 1
            heapq.heappush(lacking, (behind + 1, k))
    return given


def _random_keys(images: int, seed: int) -> NDArray[np.uint64]:
    """Return a random key for each image, uint64 [N], the same on every machine and version.

    Source: SplitMix64 in Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators"
    (OOPSLA 2014), with its output function applied to the seed first.
    """
    position = np.arange(1, images + 1, dtype=np.uint64)
    start = _mixed(np.array([seed], dtype=np.uint64))
    return _mixed(start + position * np.uint64(0x9E3779B97F4A7C15))


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
