import numpy as np
import pytest
import scheduling

from serving.batch import Batch

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def request(*thresholds, **options):
    return scheduling.request((*thresholds, 0.0), **options)


def batch(*requests, stage=0, **options):
    return Batch(stage, requests, **options)


def test_who_is_sure_enough_leaves_and_who_did_not_ask_has_no_opinion():
    sure = np.array([0.5, 0.4, 0.9, np.nan], np.float32)
    together = batch(request(0.5), request(0.5), request(2.0), request(0.5))
    verdict = together.judge(sure, ROWS)
    assert verdict.staying == [1, 2]
    first, second, third, broken = verdict.opinions
    assert third is None
    assert (first.confidence, second.confidence) == (0.5, pytest.approx(0.4))
    assert np.isnan(broken.confidence)
    np.testing.assert_array_equal(second.probabilities, ROWS[1])


def test_without_the_head_everyone_stays():
    verdict = batch(request(2.0), request(2.0)).judge(None, None)
    assert verdict.staying == [0, 1]
    assert verdict.opinions == [None, None]


def test_at_the_last_exit_everyone_leaves():
    verdict = batch(request(2.0), request(0.5), stage=1).judge(np.zeros(2, np.float32), ROWS[:2])
    assert verdict.staying == []
    assert None not in verdict.opinions


def test_at_the_end_of_the_way_through_everyone_leaves_with_what_the_last_exit_says():
    verdict = batch(request(2.0), request(2.0), through=True).judge(
        np.array([0.1, np.nan], np.float32), ROWS[:2]
    )
    assert verdict.staying == []
    assert verdict.opinions[0].confidence == pytest.approx(0.1)
    assert np.isnan(verdict.opinions[1].confidence)
    np.testing.assert_array_equal(verdict.opinions[1].probabilities, ROWS[1])


def test_degraded_those_without_a_deadline_leave_and_are_marked_if_they_would_not_have():
    unasked, unsure, sure = request(2.0), request(0.5), request(0.1)
    hurried = request(0.5, deadline=1.0)
    verdict = batch(unasked, unsure, sure, hurried, degraded=True).judge(
        np.full(4, 0.2, np.float32), ROWS
    )
    assert verdict.staying == [3]
    assert None not in verdict.opinions
    assert [each.degraded for each in (unasked, unsure, sure, hurried)] == [
        True,
        True,
        False,
        False,
    ]
