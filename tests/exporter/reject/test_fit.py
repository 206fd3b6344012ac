from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporter.errors import ExportError
from exporter.reject.fit import (
    Floats,
    Scores,
    auroc,
    auroc_interval,
    best_score,
    cross_fit,
    threshold,
    thresholds,
)

SCORES = arrays(np.float32, st.integers(1, 60), elements=st.floats(-30, 30, width=32))
RATES = st.floats(0.001, 0.999)


@given(SCORES, SCORES)
def test_the_area_is_the_share_of_pairs_in_the_right_order(inside: Floats, outside: Floats) -> None:
    pairs = np.sign(inside[:, None].astype(float) - outside[None, :].astype(float))
    assert auroc(inside, outside) == pytest.approx((pairs.mean() + 1) / 2)


@given(SCORES)
def test_the_area_is_half_for_identical_sets_and_one_for_separated_ones(scores: Floats) -> None:
    assert auroc(scores, scores) == pytest.approx(0.5)
    assert auroc(scores + 61, scores) == 1
    assert auroc(scores, scores + 61) == 0


@given(st.floats(0, 1), st.integers(20, 5000), st.integers(20, 5000))
def test_the_interval_has_the_area_and_a_width_everywhere(area: float, n: int, m: int) -> None:
    found = auroc_interval(area, n, m)
    assert 0 <= found.low <= area <= found.high <= 1
    assert found.high > found.low
    wider = auroc_interval(area, n, 20)
    assert wider.high - wider.low >= (found.high - found.low) * 0.999


def test_the_interval_covers_the_area_of_the_distributions() -> None:
    """Normal scores 1 apart: the area is Phi(1 / sqrt(2)) = 0.7602."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        value = auroc(rng.normal(1, 1, 80), rng.normal(0, 1, 60))
        interval = auroc_interval(value, 80, 60)
        covered += interval.low <= 0.7602 <= interval.high
    assert 0.92 <= covered / 400 <= 0.99


@given(SCORES, RATES)
def test_at_most_the_share_is_below_the_threshold(scores: Floats, rate: float) -> None:
    assert (scores < threshold(scores, rate)).sum() <= rate * len(scores)


@given(SCORES, RATES, RATES)
def test_a_higher_rate_rejects_as_many_or_more(scores: Floats, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert threshold(scores, low) <= threshold(scores, high)


@given(st.integers(1, 200), RATES)
def test_without_ties_as_many_are_rejected_as_the_rate_allows(images: int, rate: float) -> None:
    scores = np.random.default_rng(images).permutation(images).astype(np.float32)
    assert (scores < threshold(scores, rate)).sum() == int(rate * images)


def normal(means: list[float], images: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return np.array(means)[:, None] + rng.normal(0, 1, (len(means), images))


def test_the_best_score_is_chosen_and_measured_on_other_images() -> None:
    inside = normal([1, 2], 1000, 0)
    good = Scores(inside, normal([0, 0], 800, 1))
    bad = Scores(inside, normal([1, 2], 800, 2))
    found = cross_fit({"energy": bad, "max_logit": good}, 0.1)
    assert best_score({"energy": bad, "max_logit": good}) == "max_logit"
    assert found.aurocs == pytest.approx(good.aurocs, abs=0.01)
    assert found.aurocs == pytest.approx([0.76, 0.92], abs=0.03)
    assert found.rejected.shape == (2, 1000)
    assert found.rejected.mean(axis=1) == pytest.approx([0.1, 0.1], abs=0.02)
    assert thresholds(good, 0.1) == pytest.approx([1 - 1.28, 2 - 1.28], abs=0.15)


def test_fewer_held_out_images_than_folds_are_refused() -> None:
    few = Scores(normal([1], 4, 0), normal([0], 20, 1))
    with pytest.raises(ExportError, match="--reject: takes at least 5 held-out images"):
        cross_fit({"energy": few}, 0.1)


def test_scores_that_tell_nothing_have_an_area_of_half_after_the_choice() -> None:
    noise = [Scores(normal([0], 500, seed), normal([0], 500, 10 + seed)) for seed in (1, 2)]
    found = cross_fit({"energy": noise[0], "max_logit": noise[1]}, 0.05)
    assert found.aurocs == pytest.approx([0.5], abs=0.06)
