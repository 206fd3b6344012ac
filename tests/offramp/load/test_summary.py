from __future__ import annotations

import numpy as np
import pytest

from offramp.load.outcomes import NO_ANSWER, Outcomes
from offramp.load.summary import summarize


def outcomes(status: list[int], latency: list[float]) -> Outcomes:
    count = len(status)
    due = np.arange(count) / 10
    ok = np.array(status) == 200
    return Outcomes(
        path=np.zeros(count, np.int64),
        image=np.zeros(count, np.int64),
        due=due,
        sent=due + 0.001,
        done=due + latency,
        status=np.array(status),
        index=np.where(ok, 1, -1),
        exit=np.where(ok, 1 + np.arange(count) % 2, -1),
        flops=np.where(ok, 100, -1),
        probability=np.full(count, 0.5),
        ended_by=np.zeros(count, np.int64),
    )


def test_numbers_are_of_answers_and_errors_of_all_requests() -> None:
    found = summarize(outcomes([200, 200, 429, NO_ANSWER], [0.01, 0.03, 9, 9]), 2.0, None, 10.0)
    assert (found.load, found.requests, found.errors) == ("open", 4, 0.5)
    assert found.answers_per_second == 1.0
    assert found.p50 == pytest.approx(10)
    assert found.longest == pytest.approx(30)
    assert found.late == pytest.approx(1)
    assert found.statuses == {"200": 2, "429": 1, "no answer": 1}
    assert found.exits == {"1": 0.5, "2": 0.5}
    assert found.mean_flops == 100


def test_without_answers_there_are_no_times() -> None:
    found = summarize(outcomes([429], [1.0]), 1.0, 1, None)
    assert (found.load, found.p50, found.late, found.mean_flops) == ("closed", None, None, None)
    assert found.exits == {}
    assert found.errors == 1
