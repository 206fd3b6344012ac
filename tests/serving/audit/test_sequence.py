"""Bounds on a probability from bets: against products by hand, and against simulated audits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pytest

from serving.audit.sequence import (
    BLOCK,
    FALLING,
    MARKS,
    ODDS,
    SHARES,
    ConfidenceSequence,
    Result,
    audits_needed,
)

ALPHA = 0.05 / 3


def sequence_of(results: Iterable[Result]) -> ConfidenceSequence:
    sequence = ConfidenceSequence()
    for result in results:
        sequence = sequence.add(result)
    return sequence


def results_of(losses: Sequence[int]) -> list[Result]:
    return ["disagreement" if loss else "agreement" for loss in losses]


def steady(trials: int, losses: int) -> ConfidenceSequence:
    """Return a sequence in which losses came at a constant rate."""
    marks = [losses * number * BLOCK // trials for number in range(1, trials // BLOCK + 1)]
    return ConfidenceSequence(trials, losses, marks=tuple(marks[-MARKS:]))


def capital_by_hand(losses: Sequence[int], mean: float) -> float:
    """Multiply 1 + lambda (x - mean) for every bet, from every beginning, as in the paper."""
    total = 0.0
    last = len(losses) // BLOCK
    for number in range(last + 1):
        capitals = SHARES.copy()
        for x in losses[BLOCK * number :]:
            capitals *= 1 + (ODDS - 1) / (1 + (ODDS - 1) * mean) * (x - mean)
        total += capitals.sum() * (1 / math.sqrt(number + 1) - 1 / math.sqrt(number + 2))
    return total + 1 / math.sqrt(last + 2)  # beginnings to come


@pytest.mark.parametrize("mean", [0.01, 0.2])
def test_the_evidence_is_the_logarithm_of_the_capital_of_all_bets(mean: float) -> None:
    rng = np.random.default_rng(3)
    for trials in (0, 7, BLOCK - 1, BLOCK, 3 * BLOCK + 100):
        losses = (rng.random(trials) < 0.02).astype(int).tolist()
        evidence = sequence_of(results_of(losses)).evidence(mean)
        assert evidence == pytest.approx(math.log(capital_by_hand(losses, mean)), abs=1e-9)


@pytest.mark.parametrize("mean", [0.01, 0.3])
def test_the_expected_capital_is_1_if_the_probability_is_the_mean(mean: float) -> None:
    expected = sum(
        math.prod(mean if loss else 1 - mean for loss in losses)
        * math.exp(sequence_of(results_of(losses)).evidence(mean))
        for losses in product((0, 1), repeat=10)
    )
    assert expected == pytest.approx(1)


@pytest.mark.parametrize("blocks", [0, 1, MARKS])
def test_all_capital_is_placed_once(blocks: int) -> None:
    """Without losses, bets against a tiny probability gain and lose nothing."""
    sequence = ConfidenceSequence(blocks * BLOCK + 7, marks=(0,) * blocks)
    assert sequence.evidence(1e-12) == pytest.approx(0, abs=1e-6)


def test_a_true_promise_is_seldom_found_broken() -> None:
    """Simulate many audits in which exactly as many answers differ as is promised."""
    rng = np.random.default_rng(5)
    runs, trials, mean = 200, 600, 0.05
    alarms = too_low = 0
    for losses in rng.random((runs, trials)) < mean:
        sequence, alarm = ConfidenceSequence(), False
        for loss in losses:
            sequence = sequence.add("disagreement" if loss else "agreement")
            if loss and not alarm:
                alarm = sequence.evidence(mean) >= -math.log(0.05)
        alarms += alarm
        too_low += sequence.upper(0.05) < mean
    allowed = 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    assert alarms / runs <= allowed
    assert too_low / runs <= allowed


@pytest.mark.parametrize(("trials", "losses"), [(200, 0), (1000, 12), (30_000, 200)])
def test_the_bounds_contain_the_share_and_come_closer(trials: int, losses: int) -> None:
    few, many = (steady(trials, losses), steady(10 * trials, 10 * losses))
    widths = []
    for sequence in (few, many):
        low, high = sequence.lower(ALPHA), sequence.upper(ALPHA)
        assert low <= losses / trials < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_the_lower_bound_is_where_the_evidence_suffices() -> None:
    sequence = sequence_of(results_of([1, 0, 0, 0, 0] * 60))
    low = sequence.lower(ALPHA)
    assert sequence.evidence(low - 1e-9) >= -math.log(ALPHA) >= sequence.evidence(low + 1e-9)
    assert 0.1 < low < 0.2


def test_a_long_good_past_does_not_hide_a_change() -> None:
    good = ([1] + [0] * 199) * 100  # 0.5 % of 20,000
    sequence = sequence_of(results_of(good))
    assert sequence.lower(ALPHA) < 0.01
    for audits in range(1, 1001):
        sequence = sequence.add("disagreement" if audits % 10 == 0 else "agreement")
        if sequence.evidence(0.01) >= -math.log(ALPHA):
            break
    assert audits < 150


def test_an_unknown_result_is_taken_as_the_worst_case_of_each_bound() -> None:
    known = results_of([0] * 95 + [1] * 5)
    lost: list[Result] = ["unknown"] * 20
    unknown = sequence_of([*known, *lost])
    assert unknown.lower(ALPHA) == sequence_of([*known, *results_of([0] * 20)]).lower(ALPHA)
    assert unknown.upper(ALPHA) == sequence_of([*known, *results_of([1] * 20)]).upper(ALPHA)
    assert (unknown.known, unknown.share) == (100, 0.05)


def test_without_audits_nothing_is_known() -> None:
    nothing = ConfidenceSequence()
    assert (nothing.lower(ALPHA), nothing.upper(ALPHA)) == (0.0, 1.0)
    assert math.isnan(nothing.share)


@pytest.mark.parametrize("mean", [0.01, 0.05])
def test_the_audits_needed_are_the_fewest_that_can_support_a_promise(mean: float) -> None:
    needed = audits_needed(mean, ALPHA)
    assert ConfidenceSequence(needed).upper(ALPHA) <= mean
    assert ConfidenceSequence(needed - 1).upper(ALPHA) > mean
    exact = math.log(ALPHA) / math.log(1 - mean)  # without the price of choosing the bet later
    assert exact < needed < 2 * exact


def test_memory_and_bets_are_bounded() -> None:
    sequence = sequence_of(["agreement"] * (BLOCK * (MARKS + 5)))
    assert len(sequence.marks) == MARKS
    assert min(ODDS) > 1
    assert SHARES.sum() == pytest.approx(1)
    assert 0 < FALLING.min() < FALLING.max() < 1
