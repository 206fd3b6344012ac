"""Confidences: functions from probabilities to one number in [0, 1], part of the exported graph.

To add a confidence, add a function here and a line in CONFIDENCES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def max_softmax(probabilities: Tensor) -> Tensor:
    """Return the largest of the probabilities [N, classes], as [N]."""
    return probabilities.amax(dim=1)


def margin(probabilities: Tensor) -> Tensor:
    """Return the largest of the probabilities [N, classes] minus the second largest, as [N]."""
    top: Tensor = probabilities.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def negentropy(probabilities: Tensor) -> Tensor:
    """Return 1 minus the entropy of the probabilities [N, classes] / log(classes), as [N]."""
    entropy: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(dim=1)
    # rounding can give a result below 0
    return (1 - entropy / math.log(probabilities.shape[1])).clamp(min=0)


CONFIDENCES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max_softmax": max_softmax,
    "margin": margin,
    "negentropy": negentropy,
}
