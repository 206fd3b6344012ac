from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.bundle.betting import images_needed_for_gap, p_value_of_gap
from offramp.bundle.binomial import MOST_IMAGES, p_value

COUNTS = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 20))


@settings(max_examples=20)
@given(COUNTS, st.fractions(Fraction(1, 1000), Fraction(999, 1000)))
def test_p_values_are_those_of_bets_image_by_image(
    counts: tuple[int, int, int], epsilon: Fraction
) -> None:
    losses, gains, others = counts
    capitals = []
    for number in range(32):
        bet = Fraction(2 * number + 1, 64) / (1 - epsilon)
        capital = Fraction(1)
        for x in [1] * losses + [-1] * gains + [0] * others:
            capital *= 1 + bet * (epsilon - x)
        capitals.append(capital)
    exact = min(Fraction(1), 32 / sum(capitals, Fraction(0)))
    found = p_value_of_gap(losses, gains, losses + gains + others, float(epsilon))
    assert found == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(("loss", "gain"), [(0.1, 0.0), (0.2, 0.1), (0.55, 0.45)])
def test_true_hypotheses_are_rejected_as_seldom_as_the_level_says(loss: float, gain: float) -> None:
    """Add the probabilities of all counts at which it is rejected, with a mean of epsilon."""
    images = 40
    rejected = dict.fromkeys((0.2, 0.05, 0.0167), 0.0)
    for losses in range(images + 1):
        for gains in range(images + 1 - losses):
            rest = images - losses - gains
            ways = math.comb(images, losses) * math.comb(images - losses, gains)
            share = ways * loss**losses * gain**gains * (1 - loss - gain) ** rest
            p = p_value_of_gap(losses, gains, images, 0.1)
            for level in rejected:
                rejected[level] += share * (p <= level)
    assert all(share <= level for level, share in rejected.items()), rejected


def test_a_mean_below_epsilon_is_found_with_thousands_of_images() -> None:
    rng = np.random.default_rng(0)
    shares = [0.010, 0.007, 0.983]  # a mean of 0.003. By the losses alone it would be epsilon.
    found = [p_value_of_gap(k, g, 4000, 0.01) for k, g, _ in rng.multinomial(4000, shares, 100)]
    assert np.mean(np.array(found) <= 0.05) > 0.6


@given(COUNTS, st.floats(1e-4, 0.9))
def test_losses_raise_the_p_value_and_gains_lower_it(
    counts: tuple[int, int, int], epsilon: float
) -> None:
    losses, gains, others = counts
    images = losses + gains + others
    p = p_value_of_gap(losses, gains, images, epsilon)
    assert 0 < p <= 1
    assert p_value_of_gap(losses + 1, gains, images, epsilon) >= p
    assert p_value_of_gap(losses, gains + 1, images, epsilon) <= p


@pytest.mark.parametrize(
    ("losses", "gains", "images", "epsilon"),
    [(-1, 0, 9, 0.1), (0, -1, 9, 0.1), (5, 5, 9, 0.1), (0, 0, 0, 0.1), (0, 0, 9, 0), (0, 0, 9, 1)],
)
def test_numbers_out_of_range_are_refused(
    losses: int, gains: int, images: int, epsilon: float
) -> None:
    with pytest.raises(ValueError, match=r"^no test of"):
        p_value_of_gap(losses, gains, images, epsilon)
    with pytest.raises(ValueError, match=r"^no test of"):
        p_value_of_gap(0, 0, MOST_IMAGES + 1, 0.1)


@pytest.mark.parametrize("epsilon", [0.001, 0.01, 0.2])
def test_images_needed_are_the_fewest_that_pass(epsilon: float) -> None:
    fewest = images_needed_for_gap(epsilon, 0.05)
    assert p_value_of_gap(0, 0, fewest, epsilon) <= 0.05 < p_value_of_gap(0, 0, fewest - 1, epsilon)
    assert p_value(0, fewest, epsilon) < 0.05  # the exact test of harm needs fewer
    with pytest.raises(ValueError, match="more than 10,000,000 images"):
        images_needed_for_gap(1e-8, 0.05)
    with pytest.raises(ValueError, match="a level of 1"):
        images_needed_for_gap(epsilon, 1)
