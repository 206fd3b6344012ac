"""Fit the softmax temperature of each exit, and set it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from exporter.graph import StageGraph, set_temperature
from exporter.stage_modules import StageModule
from exporter.verify import Chain
from training.data.images import Images
from training.evaluation.thresholds import fit_temperature


def some_of(images: Images, rows: NDArray[np.int64] | None) -> Images:
    """Return the images of these rows, or all for `None`."""
    return images if rows is None else images.select(torch.from_numpy(rows))


def fit_temperatures(graphs: Sequence[StageGraph], held_out: Images) -> list[float]:
    """Return the fitted temperature of each exit. Sets the temperatures in the graphs to 1."""
    for graph in graphs:
        set_temperature(graph.model, 1.0)
    probabilities = Chain(graphs).run(held_out.pixels).probabilities
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    # rounded to the graph's float32, so that torch divides by the same number
    return [float(np.float32(fit_temperature(z, held_out.targets.numpy()))) for z in logits]


def set_temperatures(
    modules: Sequence[StageModule], graphs: Sequence[StageGraph], temperatures: Sequence[float]
) -> None:
    """Set the temperature of each exit, in the network and in its graphs."""
    for module, graph, temperature in zip(modules, graphs, temperatures, strict=True):
        module.temperature.fill_(temperature)
        set_temperature(graph.model, temperature)
