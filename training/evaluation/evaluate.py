"""The accuracy and the flops of a set of thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Confidence and correctness of every exit on labelled images.

    Args:
        confidence: Confidences [exits, N], in [0, 1].
        right: bool [exits, N], True for a right prediction.
        flops: Multiply-adds up to each exit, with all heads on the way, [exits].
        heads: Multiply-adds of each head, [exits]. A head is not computed, and costs nothing, if no
            image can leave at its exit (a threshold above 1). `None`: every head on the way is
            computed, as in the papers.
        firsts: The first stage of each network, from 0: of a cascade several. A stage does not run,
            and costs nothing, if no image can leave at its exit or a later one of its network.
        prices: Cost of reaching each exit by which going on is priced, [exits]. `None`: its flops.
    """

    confidence: NDArray[np.float32]
    right: NDArray[np.bool_]
    flops: Floats
    heads: Floats | None = None
    firsts: Sequence[int] = (0,)
    prices: Floats | None = None

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.right.shape[1])

    @property
    def full_flops(self) -> float:
        """Multiply-adds up to the last exit if no other exit is evaluated."""
        return float(self.flops_evaluating(np.zeros(len(self.flops), dtype=bool))[-1])

    def flops_evaluating(self, evaluated: NDArray[np.bool_]) -> Floats:
        """Compute the multiply-adds up to each exit, [exits], if only some exits are evaluated."""
        if self.heads is None:
            return self.flops
        saved: Floats = np.where(evaluated, 0.0, self.heads)
        own: Floats = self.flops + saved
        own -= np.cumsum(saved)
        if len(self.firsts) == 1:
            return own
        trunks = np.diff(self.flops, prepend=0.0) - self.heads
        for start, end in pairwise(self.firsts):
            last = np.flatnonzero(evaluated[start:end]).max(initial=-1)
            own[end:] -= trunks[start + last + 1 : end].sum()
        return own

    def select(self, which: NDArray[np.bool_]) -> Scored:
        """Select images by a mask [N]."""
        return replace(self, confidence=self.confidence[:, which], right=self.right[:, which])


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Results of thresholds: means over the images, and the share that leaves at each exit."""

    thresholds: tuple[float, ...]
    mean_flops: float
    std_flops: float
    accuracy: float
    shares: tuple[float, ...]


def exits_taken(confidence: NDArray[np.float32], thresholds: Floats) -> NDArray[np.int64]:
    """Return the first exit (from 0) with a confidence at or above its threshold, int64 [N].

    Compares like the server: confidence in float32, threshold in float64.
    """
    passed = confidence.astype(np.float64) >= thresholds[:, None]
    passed[-1] = True
    taken: NDArray[np.int64] = passed.argmax(axis=0)
    return taken


def apply_thresholds(scored: Scored, thresholds: Floats) -> Tradeoff:
    """Let every image leave by the thresholds ("budgeted batch" evaluation, MSDNet section 5)."""
    taken = exits_taken(scored.confidence, thresholds)
    spent = scored.flops_evaluating(thresholds <= 1)[taken]
    return Tradeoff(
        thresholds=tuple(float(t) for t in thresholds),
        mean_flops=float(spent.mean()),
        std_flops=float(spent.std()),
        accuracy=float(scored.right[taken, np.arange(scored.images)].mean()),
        shares=tuple(np.bincount(taken, minlength=len(scored.flops)) / scored.images),
    )
