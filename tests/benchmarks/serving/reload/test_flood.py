from __future__ import annotations

import numpy as np
import pytest

from benchmarks.serving.reload.flood import Round, goals
from offramp.load.outcomes import NO_ANSWER, OK, Outcomes


def outcomes_of(milliseconds: float, *, failed: int = 0, count: int = 100) -> Outcomes:
    """Return requests with one latency, of which the first ones have no answer."""
    due, nothing = np.arange(count, dtype=np.float64), np.zeros(count, np.int64)
    status = np.where(np.arange(count) < failed, NO_ANSWER, OK)
    done = due + milliseconds / 1e3
    return Outcomes(
        path=nothing,
        image=nothing,
        due=due,
        sent=due,
        done=done,
        status=status,
        index=nothing,
        exit=nothing,
        flops=nothing,
        probability=nothing.astype(np.float64),
        ended_by=nothing,
    )


@pytest.mark.parametrize(("beside", "met"), [((10, 19, 90), True), ((10, 21, 22), False)])
def test_the_medians_of_the_rounds_are_compared(beside: tuple[int, ...], *, met: bool) -> None:
    rounds = [Round(outcomes_of(10), outcomes_of(each), 500) for each in beside]
    ratio, failures = goals(rounds)
    assert ratio.met == met
    assert ratio.figure == f"{beside[1]}.0 ms, {beside[1] / 10:.2f} x, medians of 3 rounds"
    assert failures.met
    shown = str(Round(outcomes_of(10), outcomes_of(21), 500))
    assert shown.endswith("beside a flood of 500/s p50 21.0 p99 21.0 ms")


def test_a_request_without_an_answer_misses_the_goal() -> None:
    _, failures = goals([Round(outcomes_of(1), outcomes_of(1, failed=3), 500)])
    assert not failures.met
    assert failures.figure == "3 without an answer, 100 beside the flood"
