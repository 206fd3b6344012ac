"""Early stop: the end of a run that no longer improves on the held-out images."""

from __future__ import annotations

from collections.abc import Sequence

from training.fit.checkpoint import Epoch


def mean_accuracy(epoch: Epoch) -> float:
    """Return the held-out accuracy of an epoch, in the mean over exits, 0 to 1."""
    return sum(epoch.accuracies) / len(epoch.accuracies)


def best_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """Return the first epoch with the highest mean accuracy."""
    return max(epochs, key=mean_accuracy)


def is_exhausted(epochs: Sequence[Epoch], patience: int) -> bool:
    """Return True if the last `patience` epochs are not better than one before (0: never)."""
    return bool(patience and epochs) and len(epochs) - best_epoch(epochs).number >= patience
