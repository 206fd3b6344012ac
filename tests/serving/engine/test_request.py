import asyncio

import numpy as np
import pytest

from serving.engine.policy import Policy
from serving.engine.request import Call, Opinion, Request


@pytest.fixture
def request_():
    loop = asyncio.new_event_loop()
    loop.close()
    return Request(Policy("p", "p", (0.5, 0.0)), 3, 10.0, 10.5, Call(asyncio.Future(loop=loop)))


def test_the_answer_is_the_deepest_exit_with_its_times(request_) -> None:
    for confidence in (0.1, 0.8):
        assert request_.stage == len(request_.opinions)
        request_.opinions.append(Opinion(confidence, np.array([0.2, 0.8], np.float32)))
    request_.compute = 0.25
    answer = request_.answer(11.0, deadline_hit=True)
    assert answer.exit == 2
    assert answer.opinions[-1].confidence == 0.8
    assert (answer.total, answer.compute, answer.queue) == (1.0, 0.25, 0.25)
    assert answer.deadline_hit


def test_there_is_no_answer_before_the_first_exit(request_) -> None:
    with pytest.raises(AssertionError):
        request_.answer(11.0)


def test_it_is_due_as_long_before_its_deadline_as_answers_lag(request_) -> None:
    assert request_.due == float("inf")
    hurried = Request(
        Policy("p", "p", (0.5, 0.0), deadline=2.0), 3, 10.0, 10.5, request_.call, lag=0.25
    )
    assert hurried.due == 11.75


def test_it_is_sound_as_its_last_exit_is(request_) -> None:
    for confidence, sound in ((0.1, True), (float("nan"), False)):
        request_.opinions.append(Opinion(confidence, np.array([0.2, 0.8], np.float32)))
        assert request_.sound == sound
