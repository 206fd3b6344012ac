from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.bundle.binomial import MOST_IMAGES, images_needed, p_value, p_value_given_exit

EPSILONS = st.floats(1e-5, 0.9)


def exact(losses: int, images: int, epsilon: Fraction) -> Fraction:
    """Return the p-value in rational numbers."""
    terms = range(losses + 1)
    return sum(
        (math.comb(images, i) * epsilon**i * (1 - epsilon) ** (images - i) for i in terms),
        Fraction(0),
    )


@given(st.integers(1, 60), st.data(), st.fractions(Fraction(1, 1000), Fraction(999, 1000)))
def test_p_values_are_those_of_rational_arithmetic(
    images: int, data: st.DataObject, epsilon: Fraction
) -> None:
    losses = data.draw(st.integers(0, images))
    expected = float(exact(losses, images, Fraction(float(epsilon))))
    assert p_value(losses, images, float(epsilon)) == pytest.approx(expected, rel=1e-10, abs=1e-15)


@given(st.integers(1, 1_000_000), EPSILONS, st.floats(-6, 6))
def test_p_values_are_those_of_scipy(images: int, epsilon: float, deviations: float) -> None:
    from scipy.stats import binom  # late: takes seconds

    spread = math.sqrt(images * epsilon * (1 - epsilon))
    losses = min(images, max(0, round(images * epsilon + deviations * spread)))
    expected = float(binom.cdf(losses, images, epsilon))
    assert p_value(losses, images, epsilon) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_p_values_are_the_shares_of_a_simulation() -> None:
    draws = np.random.default_rng(0).binomial(400, 0.02, size=200_000)
    for losses in (0, 2, 4, 8, 15):
        share = float((draws <= losses).mean())
        error = math.sqrt(share * (1 - share) / len(draws)) + 1e-5
        assert abs(p_value(losses, 400, 0.02) - share) <= 4 * error


@given(st.integers(1, 100_000), EPSILONS, st.data())
def test_p_values_rise_with_the_losses_and_fall_with_epsilon(
    images: int, epsilon: float, data: st.DataObject
) -> None:
    losses = data.draw(st.integers(0, images - 1))
    p = p_value(losses, images, epsilon)
    assert 0 <= p <= p_value(losses + 1, images, epsilon) * (1 + 1e-9) <= 1 + 1e-8
    assert p_value(losses, images, epsilon * 1.1) <= p * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(
    ("losses", "images", "epsilon"),
    [(0, 0, 0.1), (-1, 9, 0.1), (10, 9, 0.1), (0, 9, 0.0), (0, 9, 1.0), (0, MOST_IMAGES + 1, 0.1)],
)
def test_numbers_out_of_range_are_refused(losses: int, images: int, epsilon: float) -> None:
    with pytest.raises(ValueError, match="no binomial test"):
        p_value(losses, images, epsilon)


@given(st.floats(1e-4, 0.5), st.floats(1e-4, 0.5))
def test_images_needed_without_a_loss_have_a_closed_form(epsilon: float, level: float) -> None:
    needed = images_needed(epsilon, level)
    assert abs(needed - math.log(level) / math.log1p(-epsilon)) <= 1 + 1e-6


@given(st.floats(1e-3, 0.5), st.floats(1e-3, 0.5), st.integers(0, 50))
def test_images_needed_are_the_fewest_that_pass(epsilon: float, level: float, losses: int) -> None:
    needed = images_needed(epsilon, level, losses)
    assert p_value(losses, needed, epsilon) <= level
    assert needed == losses + 1 or p_value(losses, needed - 1, epsilon) > level


def test_more_images_than_a_test_takes_are_an_error() -> None:
    with pytest.raises(ValueError, match="more than 10,000,000 images"):
        images_needed(1e-7, 0.05)
    with pytest.raises(ValueError, match="no number of images"):
        images_needed(0.0, 0.05)


def test_the_p_value_given_the_exit_is_that_of_the_worst_exit() -> None:
    from scipy.stats import binom  # late: takes seconds

    expected = max(binom.cdf(3, 400, 0.02), binom.cdf(1, 200, 0.02))
    assert p_value_given_exit([(3, 400), (1, 200)], 0.02) == pytest.approx(expected, rel=1e-10)


def test_an_exit_without_images_cannot_be_certified() -> None:
    assert p_value_given_exit([(0, 1000), (0, 0)], 0.05) == 1


def test_full_depth_alone_has_no_exit_that_can_lose() -> None:
    assert p_value_given_exit([], 0.01) == 0


def test_certified_given_the_exit_every_exit_holds_in_all_but_delta_of_the_draws() -> None:
    rng, level, epsilon = np.random.default_rng(1), 0.05, 0.05
    broken = 0
    for _ in range(2000):
        left = rng.multinomial(600, [0.7, 0.3])
        losses = [int(rng.binomial(left[0], 0.01)), int(rng.binomial(left[1], 0.051))]
        broken += p_value_given_exit(zip(losses, left.tolist(), strict=True), epsilon) <= level
    assert broken / 2000 <= level + 3 * math.sqrt(level * (1 - level) / 2000)
