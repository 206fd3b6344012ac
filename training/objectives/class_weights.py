"""Weights of classes, for training sets where some classes have far more images than others."""

from __future__ import annotations

import torch
from torch import Tensor

from training.recipes import ClassWeights


def class_weights(rule: ClassWeights, targets: Tensor, classes: int) -> Tensor | None:
    """Return the weight of each class in the losses, float32 [classes], or `None` for equal ones.

    With `balanced`, all classes have the same weight in an epoch, and the mean weight of an image
    is 1. A class without images has weight 0.

    Args:
        rule: Rule of the recipe.
        targets: Labels of the training images, int64 [N].
        classes: Number of labels.
    """
    if rule == "none":
        return None
    counts = torch.bincount(targets.cpu(), minlength=classes).float()
    found = counts > 0
    return torch.where(found, len(targets) / (found.sum() * counts.clamp(min=1)), 0.0)
