"""Confidences: from probabilities to one number in [0, 1]; baked into the exported graph.

A new one is a function here and a line in CONFIDENCES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def max_softmax(probabilities: Tensor) -> Tensor:
    """The largest of the probabilities [N, classes]; [N]."""
    return probabilities.amax(dim=1)


def margin(probabilities: Tensor) -> Tensor:
    """The largest of the probabilities [N, classes] less the second largest; [N]."""
    top: Tensor = probabilities.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def negentropy(probabilities: Tensor) -> Tensor:
    """1 less the entropy of the probabilities [N, classes], in units of log classes; [N]."""
    entropy: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(dim=1)
    # rounding can take it below 0
    return (1 - entropy / math.log(probabilities.shape[1])).clamp(min=0)


CONFIDENCES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max_softmax": max_softmax,
    "margin": margin,
    "negentropy": negentropy,
}
