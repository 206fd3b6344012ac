"""The reduction of an image inside a network or a graph, as two products with constant matrices.

The matrices are those of Pillow's `resize`, so the result is antialiased. They are used in blocks,
because most of a matrix is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.values import Filter

REDUCTION = "image_reduction"  # ends names of weights that reduce the image, which costs no flops
BITS = 22  # of a coefficient in Pillow
BLOCKS = 6  # take half the time of one product, and more of them as long


def _triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _lanczos(x: float) -> float:
    return float(np.sinc(x) * np.sinc(x / 3)) if abs(x) < 3 else 0.0


# The kernel of each filter and its radius, in pixels of the smaller image, as in Pillow.
KERNELS: Mapping[Filter, tuple[Callable[[float], float], float]] = {
    "box": (lambda x: float(-0.5 < x <= 0.5), 0.5),
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def coefficients(size: int, smaller: int, kind: Filter) -> NDArray[np.float32]:
    """Return the matrix that resizes a row of `size` pixels, float32 [smaller, size].

    Source: `precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow's `Resample.c`.
    """
    kernel, radius = KERNELS[kind]
    scale = size / smaller
    matrix = np.zeros((smaller, size))
    for row in range(smaller):
        centre = (row + 0.5) * scale
        first = max(0, int(centre - radius * scale + 0.5))
        end = min(size, int(centre + radius * scale + 0.5))
        taps = np.array([kernel((x - centre + 0.5) / scale) for x in range(first, end)])
        fixed = taps / taps.sum() * (1 << BITS)
        matrix[row, first:end] = np.trunc(fixed + np.copysign(0.5, fixed)) / (1 << BITS)
    return matrix.astype(np.float32)


def blocks(matrix: NDArray[np.float32]) -> list[tuple[slice, slice]]:
    """Return the rows of each block, and the columns where one of these rows is not 0."""
    ends = [len(matrix) * block // BLOCKS for block in range(BLOCKS + 1)]
    found = []
    for own in (slice(*pair) for pair in pairwise(ends) if pair[0] < pair[1]):
        used = np.flatnonzero(matrix[own].any(axis=0))
        found.append((own, slice(int(used[0]), int(used[-1]) + 1)))
    return found
