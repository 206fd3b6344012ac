"""Operating points, and the tests that they pass on images that they were not chosen on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from exporter.promises.fixed_sequence import last_certified
from offramp.bundle.betting import p_value_of_gap
from offramp.bundle.binomial import images_needed, p_value, p_value_given_exit
from offramp.bundle.promises import Level, LossesOfExit
from training.evaluation.evaluate import Floats, Scored
from training.evaluation.thresholds import NEVER

# An exit is open only if so many times the images leave there that certify without a loss.
FEWEST_AT_AN_EXIT = 2
AT_ONCE = 32  # points, so that images times points stay in the cache


class Points:
    """Operating points from the safest to the cheapest, with their losses on some images.

    Args:
        scored: The images.
        lost: Whether the answer of each exit is a loss, bool [exits, N].
        thresholds: Thresholds of each point, float64 [points, exits].
        gained: Whether it is a gain, bool [exits, N]. `None`: there are none.

    Attributes:
        images: Images that leave at each exit, int64 [points, exits].
        losses: Losses among them, int64 [points, exits].
        gains: Gains of each point, int64 [points].
        flops: Mean flops of each point, float64 [points].
    """

    def __init__(
        self,
        scored: Scored,
        lost: NDArray[np.bool_],
        thresholds: Floats,
        gained: NDArray[np.bool_] | None = None,
    ) -> None:
        self.thresholds = thresholds
        self.images = np.zeros(thresholds.shape, dtype=np.int64)
        self.losses = np.zeros(thresholds.shape, dtype=np.int64)
        self.gains = np.zeros(len(thresholds), dtype=np.int64)
        for start in range(0, len(thresholds), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            for k, left in enumerate(_leaving(scored, thresholds[some])):
                self.images[some, k] = left.sum(axis=1)
                self.losses[some, k] = (left & lost[k]).sum(axis=1)
                if gained is not None:
                    self.gains[some] += (left & gained[k]).sum(axis=1)
        flops = np.array([scored.flops_evaluating(each <= 1) for each in thresholds])
        self.flops: Floats = (flops * self.images).sum(axis=1) / scored.images

    def by_exit(self, point: int) -> tuple[LossesOfExit, ...]:
        """Return the losses and images of each exit but the last at a point."""
        pairs = zip(self.losses[point, :-1], self.images[point, :-1], strict=True)
        return tuple(LossesOfExit(losses=int(k), images=int(n)) for k, n in pairs)

    def cheapest(self, level: Level, largest: float) -> int | None:
        """Return the cheapest point that is certified at p-values of at most `largest`, if any.

        All points up to the last one that passes are certified. The cheapest can be an earlier one,
        because an exit's head costs flops for each image that does not leave there.
        """
        last = last_certified(self._p_values(level), largest)
        return None if last is None else int(np.argmin(self.flops[: last + 1]))

    def _p_values(self, level: Level) -> Iterator[float]:
        images, losses = int(self.images[0].sum()), self.losses.sum(axis=1).tolist()
        for point, thresholds in enumerate(self.thresholds):
            if level.kind == "exit":
                found, opened = self.by_exit(point), thresholds[:-1] <= 1
                pairs = [(e.losses, e.images) for e, o in zip(found, opened, strict=True) if o]
                yield p_value_given_exit(pairs, level.epsilon)
            elif level.kind == "accuracy":
                gains = int(self.gains[point])
                yield p_value_of_gap(losses[point], gains, images, level.epsilon)
            else:
                yield p_value(losses[point], images, level.epsilon)


def least_at_an_exit(level: Level, largest: float, images: int) -> float:
    """Return the share of so many images that leaves at an exit if it is open.

    Args:
        level: The promise.
        largest: Largest p-value that certifies it.
        images: Number of images that certify.
    """
    return FEWEST_AT_AN_EXIT * images_needed(level.epsilon, largest) / images


def with_many_at_each_exit(scored: Scored, thresholds: Floats, least: float) -> Floats:
    """Return thresholds that close each exit at which less than a share of the images leaves.

    Args:
        scored: The images that the path was chosen on.
        thresholds: Thresholds of each point, float64 [points, exits].
        least: The share.
    """
    changed = thresholds.copy()
    for k in range(thresholds.shape[1] - 1):  # what leaves at an exit depends on those before it
        *_, left = islice(_leaving(scored, changed), k + 1)
        changed[left.mean(axis=1) < least, k] = NEVER
    return changed


def _leaving(scored: Scored, thresholds: Floats) -> Iterator[NDArray[np.bool_]]:
    """Yield for each exit which images leave there, bool [points, N]."""
    last = thresholds.shape[1] - 1
    inside = np.ones((len(thresholds), scored.images), dtype=bool)
    for k, confidence in enumerate(scored.confidence.astype(np.float64)):
        left = inside & (confidence >= thresholds[:, k, None]) if k < last else inside
        yield left
        inside = inside & ~left
