from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.scored import scored_sets
from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds
from training.evaluation.thresholds import (
    NEVER,
    baseline_curve,
    best_within,
    candidates,
    fit_temperature,
    improve_thresholds,
    msdnet_thresholds,
    pareto,
)


def overconfident(images: int, exits: int, seed: int = 0) -> Scored:
    """Draw exits with growing accuracy and informative, too high confidences."""
    rng = np.random.default_rng(seed)
    difficulty = rng.uniform(0, 1, images)
    skill = np.linspace(0.6, 1.0, exits)[:, None]
    chance = np.clip(skill * (1.15 - 0.6 * difficulty), 0, 1)
    right = rng.uniform(0, 1, (exits, images)) < chance
    noise = rng.normal(0, 0.05, (exits, images))
    return Scored(
        np.clip(chance + noise, 0, 1).astype(np.float32), right, np.linspace(10.0, 100.0, exits)
    )


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_temperature_of_labels_drawn_with_it_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 5))
    scaled = np.exp(logits / temperature)
    drawn = (scaled.cumsum(1) < rng.uniform(0, 1, (20_000, 1)) * scaled.sum(1, keepdims=True)).sum(
        1
    )
    assert fit_temperature(logits, drawn) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_of_a_perfect_network_is_bounded() -> None:
    logits = np.eye(4) * 10
    assert fit_temperature(logits, np.arange(4)) == pytest.approx(0.05)
    assert fit_temperature(-logits, np.arange(4)) == pytest.approx(20)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.0])
def test_the_msdnet_procedure_gives_geometric_shares(ratio: float) -> None:
    scored = overconfident(4000, 4)
    tradeoff = apply_thresholds(scored, msdnet_thresholds(scored, ratio))
    wanted = ratio ** np.arange(1, 5)
    np.testing.assert_allclose(tradeoff.shares, wanted / wanted.sum(), atol=2 / 4000)


@given(scored_sets(), st.floats(0.01, 10))
def test_thresholds_separate_different_confidences_only(scored: Scored, ratio: float) -> None:
    thresholds = msdnet_thresholds(scored, ratio)
    assert thresholds[-1] == 0
    for confidence, threshold in zip(scored.confidence[:-1], thresholds[:-1], strict=True):
        assert threshold in (0, NEVER) or threshold not in confidence


@given(scored_sets(), st.floats(0.01, 10), st.floats(0, 1))
def test_an_improved_point_is_at_least_as_good_as_its_start(
    scored: Scored, ratio: float, price: float
) -> None:
    start = msdnet_thresholds(scored, ratio)

    def worth(tradeoff: Tradeoff) -> float:
        return tradeoff.accuracy - price * tradeoff.mean_flops / scored.full_flops

    before = worth(apply_thresholds(scored, start))
    after = worth(apply_thresholds(scored, improve_thresholds(scored, start, price)))
    assert after >= before - 1e-9


def test_the_optimum_is_never_below_the_baseline() -> None:
    scored = overconfident(1500, 4)
    found = candidates(scored)
    for tradeoff in baseline_curve(scored):
        assert best_within(found, tradeoff.mean_flops).accuracy >= tradeoff.accuracy


def test_the_optimum_of_two_exits_is_the_best_of_all_thresholds() -> None:
    scored = overconfident(300, 2, seed=1)
    price = 0.1
    every = [apply_thresholds(scored, np.array([t, 0.0])) for t in np.linspace(0, 1.01, 2000)]
    best = max(t.accuracy - price * t.mean_flops / 100 for t in every)
    found = apply_thresholds(scored, improve_thresholds(scored, np.zeros(2), price))
    assert found.accuracy - price * found.mean_flops / 100 == pytest.approx(best, abs=1e-6)


def test_a_head_is_evaluated_only_if_it_pays_for_itself() -> None:
    """The second exit pays without the cost of its head, and does not pay with it."""
    free = replace(overconfident(300, 3, seed=4), flops=np.array([10.0, 55.0, 100.0]))
    paid = replace(free, heads=np.array([1.0, 20.0, 40.0]))
    start, price, grid = np.array([0.5, 0.5, 0.0]), 0.3, np.linspace(0, 1.01, 60)

    def worth(thresholds: Floats) -> float:
        found = apply_thresholds(paid, thresholds)
        return found.accuracy - price * found.mean_flops / paid.full_flops

    improved = improve_thresholds(paid, start, price)
    assert worth(improved) >= max(worth(np.array([a, b, 0.0])) for a in grid for b in grid)
    assert improved[0] <= 1 < improved[1]
    assert improve_thresholds(free, start, price)[1] <= 1


def tradeoff(flops: float, accuracy: float) -> Tradeoff:
    return Tradeoff((0.0,), flops, 0.0, accuracy, (1.0,))


def test_pareto_keeps_undominated_tradeoffs() -> None:
    good = [tradeoff(1, 0.5), tradeoff(2, 0.7), tradeoff(5, 0.9)]
    assert (
        pareto([tradeoff(2, 0.6), good[2], tradeoff(4, 0.7), *good[:2], tradeoff(6, 0.9)]) == good
    )


def test_best_within_chooses_the_most_accurate_affordable_tradeoff() -> None:
    choices = [tradeoff(2, 0.7), tradeoff(5, 0.9), tradeoff(4, 0.6)]
    assert best_within(choices, 4.5) == choices[0]
    assert best_within(choices, 1.0) == choices[0]
    assert best_within(choices, 5.0) == choices[1]
