"""The sum of every exit's cross-entropy, all exits alike (MSDNet, DSN, DFS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def joint_loss(logits: Sequence[Tensor], targets: Tensor, label_smoothing: float) -> Tensor:
    """Sum over exits of the mean cross-entropy.

    Args:
        logits: [N, classes] for each exit.
        targets: int64 [N].
        label_smoothing: mass spread evenly over all labels, in [0, 1).

    Returns:
        A scalar, float32.
    """
    losses = [
        F.cross_entropy(exit_logits.float(), targets, label_smoothing=label_smoothing)
        for exit_logits in logits
    ]
    return torch.stack(losses).sum()
