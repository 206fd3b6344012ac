from __future__ import annotations

import numpy as np
import pytest

from serving.engine.opinion import Opinion
from serving.engine.policy import Policy
from serving.engine.request import Request
from tests.serving import scheduling


@pytest.fixture
def request_() -> Request:
    call = scheduling.request().call
    return Request(Policy("p", "p", (0.5, 0.0)), 3, 10.0, 10.5, call)


def opinion(confidence: float) -> Opinion:
    return Opinion(confidence, np.array([0.2, 0.8], np.float32))


def test_the_answer_is_the_deepest_exit_with_its_times(request_: Request) -> None:
    for confidence in (0.1, 0.8):
        assert request_.stage == len(request_.opinions)
        request_.opinions.append(opinion(confidence))
    request_.compute = 0.25
    answer = request_.answer(11.0, 500, deadline_hit=True)
    assert answer.exit == 2
    assert answer.opinion.confidence == 0.8
    assert (answer.total, answer.compute, answer.queue) == (1.0, 0.25, 0.25)
    assert answer.deadline_hit
    assert answer.flops == 500


def test_there_is_no_answer_before_the_first_exit(request_: Request) -> None:
    with pytest.raises(AssertionError):
        request_.answer(11.0, 0)


def test_it_is_due_before_its_deadline_by_the_lag_of_answers(request_: Request) -> None:
    assert request_.due == float("inf")
    policy = Policy("p", "p", (0.5, 0.0), deadline=2.0)
    assert Request(policy, 3, 10.0, 10.5, request_.call, lag=0.25).due == 11.75


def test_it_is_sound_if_the_confidence_of_its_last_exit_is_finite(request_: Request) -> None:
    for confidence, sound in ((0.1, True), (float("nan"), False)):
        request_.opinions.append(opinion(confidence))
        assert request_.sound == sound
