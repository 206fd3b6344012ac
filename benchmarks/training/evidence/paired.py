"""Paired differences of accuracy: the same images, and the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.training.predictions import Trained

Floats = NDArray[np.float64]
# By row, then by seed: which images each exit is right for, 0 or 1, [exits, images].
Right = Mapping[str, Mapping[str, Floats]]
ImageSet = Literal["held_out", "test"]


def right_of(trained: Sequence[Trained], sets: Sequence[ImageSet]) -> Right:
    """Return by row and seed which images of these sets each exit is right for."""
    right: dict[str, dict[str, Floats]] = {}
    for run in trained:
        each = [(run.held_out if name == "held_out" else run.test).right for name in sets]
        right.setdefault(run.row, {})[run.seed] = np.concatenate(each, axis=1).astype(np.float64)
    return right


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of a row minus that of another at each exit, in points.

    Args:
        seeds: Differences of each seed that both rows have, [seeds, exits].
        of_images: Standard errors of the mean over images, [exits]. They take the images of all
            seeds as independent. Networks of other seeds are wrong about much the same images, so
            it is a little too small.
    """

    seeds: Floats
    of_images: Floats

    @property
    def mean(self) -> Floats:
        """Mean over seeds, [exits]."""
        return np.asarray(self.seeds.mean(axis=0))

    @property
    def error(self) -> Floats:
        """Standard error of the mean: the larger of that over images and that over seeds."""
        count = len(self.seeds)
        if count < 2:
            return self.of_images
        of_seeds = self.seeds.std(axis=0, ddof=1) / np.sqrt(count)
        return np.asarray(np.maximum(self.of_images, of_seeds))


def paired(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> Difference | None:
    """Compare two rows by the seeds that both have. Return `None` if there is no such seed.

    Args:
        one: Which images are right, by seed, [exits, images].
        other: The same of the other row. Rows with different numbers of exits are compared at
            the last.

    Raises:
        ValueError: The rows have different images.
    """
    seeds = sorted(set(one) & set(other))
    if not seeds:
        return None
    exits = min(len(one[seeds[0]]), len(other[seeds[0]]))
    if any(one[seed].shape[1] != other[seed].shape[1] for seed in seeds):
        raise ValueError("rows have different images")
    each = [100 * (one[seed][-exits:] - other[seed][-exits:]) for seed in seeds]
    joined = np.concatenate(each, axis=1)
    return Difference(
        np.array([differences.mean(axis=1) for differences in each]),
        joined.std(axis=1, ddof=1) / np.sqrt(joined.shape[1]),
    )
