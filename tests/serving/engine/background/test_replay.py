"""The answers of other operating points: against the rule by which requests leave."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.background.replay import result_at
from serving.engine.opinion import Opinion
from serving.engine.policy import Policy

THRESHOLDS = st.tuples(*[st.sampled_from([0.2, 0.5, 0.8, 1.0, 2.0])] * 3).map(lambda t: (*t, 0.0))
CLASSES = st.tuples(*[st.sampled_from([0, 1])] * 4)
CONFIDENCES = st.tuples(*[st.sampled_from([0.1, 0.2, 0.5, 0.9, 1.0])] * 4)


def opinion(confidence: float, class_: int) -> Opinion:
    return Opinion(confidence, np.eye(2, dtype=np.float32)[class_])


@given(THRESHOLDS, CLASSES, CONFIDENCES)
def test_a_point_is_replayed_as_its_policy_decides(
    thresholds: tuple[float, ...], classes: tuple[int, ...], confidences: tuple[float, ...]
) -> None:
    opinions = [opinion(*each) for each in zip(confidences, classes, strict=True)]
    policy = Policy("low", "low", thresholds)
    stage = next(k for k in range(4) if policy.asks[k] and policy.decide(opinions[k], opinions[:k]))
    expected = "agreement" if classes[stage] == classes[-1] else "disagreement"
    assert result_at(thresholds, opinions, classes[-1]) == expected
    reached = opinions[: stage + 1]
    assert result_at(thresholds, reached, classes[-1]) == expected
    assert result_at(thresholds, reached[:-1], classes[-1]) == "unknown"


def test_the_result_at_an_exit_that_was_not_evaluated_or_failed_is_unknown() -> None:
    last = opinion(0.9, 1)
    assert result_at((0.5, 0.0), [None, last], 1) == "unknown"
    assert result_at((2.0, 0.0), [None, last], 1) == "agreement"
    assert result_at((0.5, 0.0), [opinion(math.nan, 1), last], 1) == "unknown"
