"""Evaluation: what each exit predicts, and what a set of thresholds makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def exit_accuracies(logits: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Share of right predictions at each exit ("anytime" accuracy)."""
    right = (logits.argmax(-1) == targets).float().mean(-1)
    return tuple(float(share) for share in right)


@dataclass(frozen=True, slots=True)
class Scored:
    """What every exit said of images whose labels are known.

    Args:
        confidence: [exits, N], in [0, 1].
        right: bool [exits, N], whether the prediction was right.
        flops: [exits], multiply-adds to leave at each exit, with all heads on the way.
        heads: [exits], multiply-adds of each head, which are not spent where nobody may leave
            (a threshold above 1); None: they are spent nevertheless, as in the papers.
    """

    confidence: NDArray[np.float32]
    right: NDArray[np.bool_]
    flops: Floats
    heads: Floats | None = None

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.right.shape[1])

    @property
    def full_flops(self) -> float:
        """Multiply-adds to leave at the last exit when no other is asked."""
        return float(self.flops_asking(np.zeros(len(self.flops), dtype=bool))[-1])

    def flops_asking(self, asked: NDArray[np.bool_]) -> Floats:
        """Multiply-adds to leave at each exit, [exits], when only some are asked on the way."""
        if self.heads is None:
            return self.flops
        spared: Floats = np.where(asked, 0.0, self.heads)
        own: Floats = self.flops + spared
        return own - np.cumsum(spared)

    def select(self, which: NDArray[np.bool_]) -> Scored:
        """Some of the images, by a mask [N]."""
        return replace(self, confidence=self.confidence[:, which], right=self.right[:, which])


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """What thresholds gave: means over the images, and the exit each image left at."""

    thresholds: tuple[float, ...]
    mean_flops: float
    std_flops: float
    accuracy: float
    shares: tuple[float, ...]


def exits_taken(confidence: NDArray[np.float32], thresholds: Floats) -> NDArray[np.int64]:
    """The first exit (from 0) whose confidence is at least its threshold, int64 [N].

    The comparison is the server's: confidence as float32, threshold as float64.
    """
    passed = confidence.astype(np.float64) >= thresholds[:, None]
    passed[-1] = True
    taken: NDArray[np.int64] = passed.argmax(axis=0)
    return taken


def apply_thresholds(scored: Scored, thresholds: Floats) -> Tradeoff:
    """Send every image through the exits ("budgeted batch" evaluation, MSDNet section 5)."""
    taken = exits_taken(scored.confidence, thresholds)
    spent = scored.flops_asking(thresholds <= 1)[taken]
    return Tradeoff(
        thresholds=tuple(float(t) for t in thresholds),
        mean_flops=float(spent.mean()),
        std_flops=float(spent.std()),
        accuracy=float(scored.right[taken, np.arange(scored.images)].mean()),
        shares=tuple(np.bincount(taken, minlength=len(scored.flops)) / scored.images),
    )
