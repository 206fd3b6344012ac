from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.promises.fixed_sequence import last_certified, level_of
from offramp.bundle.binomial import p_value

DRAWS = 2000
cached_p_value = cache(p_value)


@given(st.lists(st.floats(0, 1)), st.floats(0.001, 0.5))
def test_all_points_before_the_first_failure_are_certified(ps: list[float], level: float) -> None:
    last = last_certified(ps, level)
    passed = 0 if last is None else last + 1
    assert all(p <= level for p in ps[:passed])
    assert passed == len(ps) or ps[passed] > level


def test_no_p_value_is_computed_after_the_first_failure() -> None:
    ps = iter([0.01, 0.2, 0.001])
    assert last_certified(ps, 0.05) == 0
    assert list(ps) == [0.001]


def test_several_promises_divide_the_level() -> None:
    assert level_of(0.05, 1) == 0.05
    assert level_of(0.06, 3) == pytest.approx(0.02)


def violations(shares: list[float], images: int, epsilon: float, level: float) -> float:
    """Return how often the point certified in simulated draws has a loss above epsilon.

    The losses of a path are nested: an image that is lost at one point is lost at the next too.
    """
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(DRAWS):
        places = rng.random(images)
        losses = [int((places < share).sum()) for share in shares]
        last = last_certified((cached_p_value(k, images, epsilon) for k in losses), level)
        broken += last is not None and shares[last] > epsilon
    return broken / DRAWS


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_certified_points_break_their_promise_in_at_most_delta_of_the_draws(epsilon: float) -> None:
    shares = [epsilon * factor for factor in (0, 0.2, 0.5, 0.8, 0.9, 1.0, 1.001, 1.1, 1.3, 2, 4)]
    for level in (0.05, 0.2):
        error = math.sqrt(level * (1 - level) / DRAWS)
        assert violations(shares, 400, epsilon, level) <= level + 3 * error


def test_a_level_that_ignores_other_promises_would_break_them_more_often() -> None:
    # the bound is tight: a test at twice the level is not safe at the level
    assert violations([0.0, 0.05001], 400, 0.05, 0.1) > 0.05
