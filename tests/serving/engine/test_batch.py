import numpy as np
import pytest

from serving.engine.batch import Batch
from tests.serving import scheduling

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def request(*thresholds, **options):
    return scheduling.request((*thresholds, 0.0), **options)


def batch(*requests, stage=0, **options):
    return Batch(stage, requests, **options)


def test_who_is_sure_enough_leaves_and_who_did_not_ask_has_no_opinion() -> None:
    sure = np.array([0.5, 0.4, 0.9, np.nan], np.float32)
    together = batch(request(0.5), request(0.5), request(2.0), request(0.5))
    decision = together.decide(sure, ROWS)
    assert decision.continuing == [1, 2]
    first, second, third, broken = decision.opinions
    assert third is None
    assert (first.confidence, second.confidence) == (0.5, pytest.approx(0.4))
    assert np.isnan(broken.confidence)
    np.testing.assert_array_equal(second.probabilities, ROWS[1])


def test_without_the_head_everyone_stays() -> None:
    decision = batch(request(2.0), request(2.0)).decide(None, None)
    assert decision.continuing == [0, 1]
    assert decision.opinions == [None, None]


def test_at_the_last_exit_everyone_leaves() -> None:
    decision = batch(request(2.0), request(0.5), stage=1).decide(np.zeros(2, np.float32), ROWS[:2])
    assert decision.continuing == []
    assert None not in decision.opinions


def test_at_the_end_of_the_way_through_everyone_leaves_with_what_the_last_exit_says() -> None:
    decision = batch(request(2.0), request(2.0), whole_network=True).decide(
        np.array([0.1, np.nan], np.float32), ROWS[:2]
    )
    assert decision.continuing == []
    assert decision.opinions[0].confidence == pytest.approx(0.1)
    assert np.isnan(decision.opinions[1].confidence)
    np.testing.assert_array_equal(decision.opinions[1].probabilities, ROWS[1])


def test_degraded_those_without_a_deadline_leave_and_are_marked_if_they_would_not_have() -> None:
    unasked, unsure, sure = request(2.0), request(0.5), request(0.1)
    hurried = request(0.5, deadline=1.0)
    decision = batch(unasked, unsure, sure, hurried, degraded=True).decide(
        np.full(4, 0.2, np.float32), ROWS
    )
    assert decision.continuing == [3]
    assert None not in decision.opinions
    assert [each.degraded for each in (unasked, unsure, sure, hurried)] == [
        True,
        True,
        False,
        False,
    ]
