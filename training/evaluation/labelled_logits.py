"""The logits of every exit on a set of images, and what is computed from them image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.images import ImageFiles, Images
from training.errors import DivergedError
from training.evaluation.evaluate import Floats, Scored
from training.evaluation.thresholds import fit_temperature
from training.networks.confidence import max_softmax
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import predict


@dataclass(frozen=True, slots=True)
class LabelledLogits:
    """Logits of every exit, float32 [exits, N, classes], and targets int64 [N].

    `pseudo` is True if the targets are the predictions of the last exit.
    """

    logits: Tensor
    targets: Tensor
    pseudo: bool = False


def labelled_logits(network: MultiExitNetwork, images: Images | ImageFiles) -> LabelledLogits:
    """Compute the logits of images on the network's device. The result is on the CPU.

    Images without labels get pseudo-labels.

    Raises:
        DivergedError: Some are not finite.
    """
    device = next(network.parameters()).device
    logits, targets = [], []
    for part in images.parts():
        logits.append(predict(network, part.pixels.to(device)).cpu())
        targets.append(part.targets.cpu())
    found = torch.cat(logits, dim=1)
    if not found.isfinite().all():
        raise DivergedError(
            "lr: the trained network gives results that are not finite; lower it and train again"
        )
    if not images.labelled:
        return LabelledLogits(found, found[-1].argmax(dim=1), pseudo=True)
    return LabelledLogits(found, torch.cat(targets))


def temperatures_of(held_out: LabelledLogits) -> tuple[float, ...]:
    """Fit the temperature of each exit. With pseudo-labels, that of the last exit is 1."""
    targets = held_out.targets.numpy()
    fitted = [fit_temperature(logits.numpy(), targets) for logits in held_out.logits]
    return (*fitted[:-1], 1.0) if held_out.pseudo else tuple(fitted)


def score(
    given: LabelledLogits,
    temperatures: Sequence[float],
    flops: Floats,
    starts: Sequence[int] = (0,),
) -> Scored:
    """Compute confidence (calibrated maximum softmax) and correctness of each exit.

    Args:
        given: Logits and labels.
        temperatures: Temperature of each exit.
        flops: Multiply-adds up to each exit.
        starts: First stage of each part of the network, from 0.
    """
    confidence = [
        max_softmax(torch.softmax(logits / temperature, dim=1))
        for logits, temperature in zip(given.logits, temperatures, strict=True)
    ]
    right = given.logits.argmax(-1) == given.targets
    # heads on the way count, as in the papers; a part in which no exit is evaluated does not
    heads = np.zeros_like(flops) if len(starts) > 1 else None
    return Scored(torch.stack(confidence).numpy(), right.numpy(), flops, heads, starts)


def agrees(given: LabelledLogits) -> NDArray[np.bool_]:
    """Return which predictions of each exit are those of the last exit, bool [exits, N]."""
    predicted = given.logits.argmax(-1)
    same: NDArray[np.bool_] = (predicted == predicted[-1]).numpy()
    return same
