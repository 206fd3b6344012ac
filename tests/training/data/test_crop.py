import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.data.crop import random_part

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.integers(0, 2**32))
def test_a_part_is_inside_the_image(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = random_part((width, height), np.random.default_rng(seed))
    assert 0 <= left < right <= 1 + 1e-12
    assert 0 <= top < bottom <= 1 + 1e-12


def test_parts_have_the_published_sizes_and_ratios() -> None:
    rng = np.random.default_rng(0)
    parts = np.array([random_part((500, 400), rng) for _ in range(2000)])
    across, down = parts[:, 2] - parts[:, 0], parts[:, 3] - parts[:, 1]
    ratios = across * 500 / (down * 400)
    assert 0.74 < ratios.min() < 0.78
    assert 1.29 < ratios.max() < 1.35
    assert 0.079 < (across * down).min() < 0.1
    assert abs((across * down).mean() - 0.5) < 0.05, "areas are uniform, except those too large"


def test_parts_are_not_smaller_than_the_given_area() -> None:
    rng = np.random.default_rng(0)
    parts = np.array([random_part((500, 500), rng, 0.7) for _ in range(500)])
    areas = (parts[:, 2] - parts[:, 0]) * (parts[:, 3] - parts[:, 1])
    assert 0.69 < areas.min() < 0.71


def test_the_part_of_a_narrow_image_is_its_middle() -> None:
    """No part with an allowed ratio and area fits into it."""
    part = random_part((1000, 10), np.random.default_rng(0))
    assert np.allclose(part, (0.5 - 1 / 150, 0, 0.5 + 1 / 150, 1))
