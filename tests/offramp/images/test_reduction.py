import numpy as np
import pytest

from offramp.bundle.values import Filter
from offramp.images.reduction import KERNELS, blocks, coefficients


@pytest.mark.parametrize("kind", list(KERNELS))
def test_a_grey_image_stays_grey(kind: Filter) -> None:
    assert np.allclose(coefficients(224, 160, kind).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("size", "smaller"), [(224, 128), (32, 16), (8, 3), (5, 1)])
def test_blocks_have_all_of_a_matrix(size: int, smaller: int) -> None:
    matrix = coefficients(size, smaller, "bicubic")
    made = np.zeros_like(matrix)
    for own, read in blocks(matrix):
        made[own, read] = matrix[own, read]
    assert np.array_equal(made, matrix)
