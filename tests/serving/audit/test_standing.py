"""Moves of a promise on its ladder: to full depth at an alarm, and back to points that pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.audit.sequence import ConfidenceSequence, Result, audits_needed
from serving.audit.standing import AuditedPromise, Standing

PROMISE = AuditedPromise("promise-90", 0.1, 0.05, ("90%", "95%", "98%", "99%", "full"))
FULL = len(PROMISE.ladder) - 1
AGREEMENTS: list[Result] = ["agreement"] * len(PROMISE.ladder)
RESULTS: tuple[Result, Result] = ("agreement", "disagreement")
SHARES = st.sampled_from([0.0, 0.03, 0.5])


def alarmed(standing: Standing) -> Standing:
    """Return the standing after disagreements of the point that answers, up to an alarm."""
    point = standing.point
    while standing.point == point:
        standing = standing.add(PROMISE, "disagreement")
    return standing


def after(standing: Standing, audits: int, others: Sequence[Result]) -> Standing:
    for _ in range(audits):
        standing = standing.add(PROMISE, "agreement", others)
    return standing


def test_after_an_alarm_full_depth_answers_and_all_safer_points_are_tried() -> None:
    standing = alarmed(Standing())
    assert standing == Standing(FULL, candidates=(ConfidenceSequence(),) * 3)


def test_the_cheapest_point_answers_that_audits_support_with_all_safer_ones() -> None:
    needed = audits_needed(PROMISE.epsilon, PROMISE.alpha)
    standing = after(alarmed(Standing()), needed - 1, AGREEMENTS)
    assert standing.point == FULL
    standing = standing.add(PROMISE, "agreement", AGREEMENTS)
    assert standing == Standing(1)


def test_a_point_is_not_passed_over_by_cheaper_ones() -> None:
    """The order of the tests is fixed, which keeps the probability of an error."""
    others: list[Result] = [*AGREEMENTS]
    others[2] = "disagreement"
    standing = after(alarmed(Standing()), 100, others)
    assert standing.point == 3
    assert [each.losses for each in standing.candidates] == [0, 100]


def test_points_that_are_tried_count_on_while_a_safer_one_answers() -> None:
    others: list[Result] = [*AGREEMENTS]
    others[1] = "disagreement"
    standing = after(alarmed(Standing()), 100, others)
    assert standing.point == 2
    (candidate,) = standing.candidates
    assert (candidate.trials, candidate.losses) == (100, 100)
    assert standing.sequence.trials < 100
    standing = after(standing, 5000, AGREEMENTS)
    assert standing.point == 1


def test_after_an_alarm_of_a_safer_point_only_those_beyond_it_are_tried() -> None:
    standing = after(alarmed(Standing()), 200, AGREEMENTS)
    for candidates in (2, 1, 0):
        standing = alarmed(standing)
        assert (standing.point, len(standing.candidates)) == (FULL, candidates)
        standing = after(standing, 200, AGREEMENTS)
    assert standing.point == FULL


def test_results_without_the_other_points_support_none_of_them() -> None:
    standing = after(alarmed(Standing()), 200, ())
    assert standing.point == FULL
    assert {each.unknown for each in standing.candidates} == {200}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(SHARES, min_size=FULL, max_size=FULL))
def test_moves_are_alarms_to_full_depth_or_steps_to_points_that_are_supported(
    seed: int, shares: list[float]
) -> None:
    standing, cheapest, rng = Standing(), 0, np.random.default_rng(seed)
    for losses in rng.random((150, FULL)) < shares:
        results = [*(RESULTS[int(loss)] for loss in losses), RESULTS[0]]
        before = standing
        standing = before.add(PROMISE, results[before.point], results)
        assert cheapest <= standing.point - len(standing.candidates) <= standing.point <= FULL
        if standing.point == before.point:
            assert standing.sequence.trials == before.sequence.trials + 1
        elif standing.point > before.point:
            assert (standing.point, results[before.point]) == (FULL, "disagreement")
            cheapest = before.point + 1
        else:
            passed = range(standing.point, before.point)
            first = before.point - len(before.candidates)
            grown = [before.candidates[each - first].add(results[each]) for each in passed]
            assert all(each.upper(PROMISE.alpha) <= PROMISE.epsilon for each in grown)
            assert standing.sequence.trials == 0


def test_a_point_that_loses_as_much_as_is_promised_seldom_answers() -> None:
    """Simulate audits after an alarm, with one point to try."""
    rng = np.random.default_rng(4)
    runs, wrong = 100, 0
    for losses in rng.random((runs, 120)) < PROMISE.epsilon:
        standing = Standing(FULL, candidates=(ConfidenceSequence(),))
        for loss in losses:
            standing = standing.add(PROMISE, "agreement", [RESULTS[int(loss)]] * len(AGREEMENTS))
        wrong += standing.point < FULL
    allowed = PROMISE.alpha + 2 * math.sqrt(PROMISE.alpha * (1 - PROMISE.alpha) / runs)
    assert wrong / runs <= allowed
