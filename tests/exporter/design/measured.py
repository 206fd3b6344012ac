"""Networks with random answers and stated costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporter.design.chains import Cost, Measured

IMAGES = 2000
TARGETS: NDArray[np.int64] = np.random.default_rng(0).integers(0, 10, IMAGES)


def network(
    name: str, number: int, milliseconds: list[float], flops: list[float], right: list[float]
) -> Measured:
    """Return a network of which each exit is right so often, and more often when confident."""
    rng = np.random.default_rng(number)
    confidence, classes = [], []
    for share in right:
        sure = rng.beta(4 * share, 4 * (1 - share), IMAGES)
        hit = rng.random(IMAGES) < sure
        confidence.append(sure)
        classes.append(np.where(hit, TARGETS, (TARGETS + 1) % 10))
    return Measured(
        name,
        32,
        number,
        np.array(confidence, np.float32),
        np.array(classes),
        Cost(np.array(flops), np.array(flops) / 10),
        Cost(np.array(milliseconds), np.array(milliseconds) / 10),
    )


SMALL = network("small", 0, [1.0], [30e6], [0.85])
TWO = network("two", 1, [2.0, 2.0], [20e6, 60e6], [0.8, 0.9])
LARGE = network("large", 2, [10.0], [100e6], [0.95])
