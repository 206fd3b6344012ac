from __future__ import annotations

import numpy as np

from serving.engine.background.draws import Draws, unknown_of
from serving.engine.opinion import Opinion
from tests.serving.scheduling import request


def test_a_share_of_the_requests_is_drawn() -> None:
    draws = Draws(0.05)
    drawn = 0
    for _ in range(20_000):
        if draws.draw(1):
            drawn += 1
            draws.end()
    assert abs(drawn / 20_000 - 0.05) < 0.01


def test_no_request_is_drawn_while_enough_are_under_way() -> None:
    draws = Draws(1.0)
    assert [draws.draw(2) for _ in range(4)] == [True, True, False, False]
    draws.end()
    assert [draws.draw(2) for _ in range(2)] == [True, False]
    draws.share = 0.0
    draws.end()
    assert not draws.draw(2)


def test_an_answer_that_the_policy_did_not_choose_is_not_compared() -> None:
    answered = request()
    answered.opinions.append(Opinion(0.9, np.ones(2, np.float32)))
    assert unknown_of(answered, "finished") is None
    assert unknown_of(request(), "expired") == "cut_short"
    assert unknown_of(request(), "failed") == "failed"
    answered.degraded = True
    assert unknown_of(answered, "finished") == "cut_short"
