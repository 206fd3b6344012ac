"""Fit the softmax temperature of each exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from exporter.stages.graph import StageGraph, set_temperature
from exporter.stages.runner import Chain, LabelledImages
from training.evaluation.thresholds import fit_temperature

if TYPE_CHECKING:
    from training.data.images import Images


def some_of(images: Images, rows: NDArray[np.int64] | None) -> Images:
    """Return the images of these rows, or all for `None`."""
    if rows is None:
        return images
    import torch  # late: a cascade is made without it

    return images.select(torch.from_numpy(rows))


def fit_temperatures(graphs: Sequence[StageGraph], held_out: LabelledImages) -> list[float]:
    """Return the fitted temperature of each exit. Sets the temperatures in the graphs to 1."""
    for graph in graphs:
        set_temperature(graph.model, 1.0)
    probabilities = Chain(graphs).run(held_out.pixels).probabilities
    return temperatures_for(probabilities, np.asarray(held_out.targets))


def logits_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits that give these probabilities, of the same shape. 0 becomes tiny."""
    logits: NDArray[np.float32] = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return logits


def temperatures_for(probabilities: NDArray[np.float32], targets: NDArray[np.int64]) -> list[float]:
    """Return the temperature that fits each exit, by which its current one is multiplied.

    Args:
        probabilities: Of each exit, float32 [exits, N, classes].
        targets: Labels, int64 [N].
    """
    # rounded to the graph's float32, so that torch divides by the same number
    return [float(np.float32(fit_temperature(z, targets))) for z in logits_of(probabilities)]
