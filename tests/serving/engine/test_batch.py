from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.engine.batch import Batch
from serving.engine.request import Request
from tests.serving import scheduling
from tests.serving.scheduling import at_stage, opinion_of

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def request(*thresholds: float, **options: Any) -> Request:
    return scheduling.request((*thresholds, 0.0), **options)


def test_confident_requests_leave_and_exits_that_are_not_evaluated_give_no_opinion() -> None:
    confidence = np.array([0.5, 0.4, 0.9, np.nan], np.float32)
    batch = Batch(0, (request(0.5), request(0.5), request(2.0), request(0.5)))
    decision = batch.decide(confidence, ROWS)
    assert decision.continuing == [1, 2]
    first, second, third, broken = decision.opinions
    assert third is None
    assert opinion_of(first).confidence == 0.5
    assert opinion_of(second).confidence == pytest.approx(0.4)
    assert np.isnan(opinion_of(broken).confidence)
    np.testing.assert_array_equal(opinion_of(second).probabilities, ROWS[1])


def test_without_the_head_all_requests_continue() -> None:
    decision = Batch(0, (request(2.0), request(2.0))).decide(None, None)
    assert decision.continuing == [0, 1]
    assert decision.opinions == [None, None]


def test_at_the_last_exit_all_requests_leave() -> None:
    batch = Batch(1, (at_stage(request(2.0), 1), at_stage(request(0.5), 1)))
    decision = batch.decide(np.zeros(2, np.float32), ROWS[:2])
    assert decision.continuing == []
    assert None not in decision.opinions


def test_after_a_whole_network_all_requests_leave_with_the_opinion_of_the_last_exit() -> None:
    batch = Batch(0, (request(2.0), request(2.0)), whole_network=True)
    decision = batch.decide(np.array([0.1, np.nan], np.float32), ROWS[:2])
    assert decision.continuing == []
    first, second = map(opinion_of, decision.opinions)
    assert first.confidence == pytest.approx(0.1)
    assert np.isnan(second.confidence)
    np.testing.assert_array_equal(second.probabilities, ROWS[1])


def test_under_overload_requests_without_a_deadline_leave_and_are_marked_if_forced() -> None:
    unevaluated, unsure, sure = request(2.0), request(0.5), request(0.1)
    urgent = request(0.5, deadline=1.0)
    batch = Batch(0, (unevaluated, unsure, sure, urgent), degraded=True)
    decision = batch.decide(np.full(4, 0.2, np.float32), ROWS)
    assert decision.continuing == [3]
    assert None not in decision.opinions
    marked = [each.degraded for each in (unevaluated, unsure, sure, urgent)]
    assert marked == [True, True, False, False]


def test_the_exit_that_a_request_leaves_at_decides_whether_it_is_rejected() -> None:
    asking = [request(0.5, reject=(2.0, 5.0)) for _ in range(3)]
    confidence, score = np.array([0.9, 0.9, 0.1], np.float32), np.array([1, 2, 9], np.float32)
    decision = Batch(0, tuple(asking)).decide(confidence, ROWS[:3], score)
    assert decision.continuing == [2]
    for each, found in zip(asking, decision.opinions, strict=True):
        each.opinions.append(found)
    assert [each.answer(11.0, 0).rejected for each in asking[:2]] == [True, False]
    decision = Batch(1, (asking[2],)).decide(confidence[:1], ROWS[:1], np.array([4], np.float32))
    asking[2].opinions += decision.opinions
    assert asking[2].answer(11.0, 0).rejected


def test_a_request_that_does_not_ask_has_no_score() -> None:
    for whole_network in (False, True):
        batch = Batch(
            0, (request(0.5), request(0.5, reject=(1.0, 1.0))), True, False, whole_network
        )
        decision = batch.decide(np.full(2, 0.9, np.float32), ROWS[:2], np.full(2, 3, np.float32))
        plain, scored = decision.opinions
        assert plain is not None
        assert scored is not None
        assert (plain.score, scored.score) == (None, 3)


def test_the_features_of_requests_that_leave_and_are_audited_are_kept() -> None:
    requests = [request(0.5) for _ in range(4)]
    requests[0].audited = requests[2].audited = True
    decision = Batch(0, tuple(requests)).decide(np.array([0.9, 0.1, 0.1, 0.9], np.float32), ROWS)
    assert (decision.continuing, decision.audited, decision.kept) == ([1, 2], [0], [0, 1, 2])
