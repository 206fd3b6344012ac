from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.scored import scored_sets
from training.evaluation.evaluate import Scored, apply_thresholds, exits_taken


def test_the_first_exit_that_reaches_its_threshold_is_taken() -> None:
    confidence = np.array([[0.9, 0.4, 0.5], [0.1, 0.8, 0.7]], dtype=np.float32)
    assert exits_taken(confidence, np.array([0.5, 0.0])).tolist() == [0, 1, 0]


def test_means_by_hand() -> None:
    scored = Scored(
        confidence=np.array([[0.9, 0.4, 0.6, 0.1], [1, 1, 1, 1]], dtype=np.float32),
        right=np.array([[True, True, False, True], [True, False, True, True]]),
        flops=np.array([10.0, 30.0]),
    )
    tradeoff = apply_thresholds(scored, np.array([0.5, 0.0]))
    assert tradeoff.shares == (0.5, 0.5)
    assert tradeoff.mean_flops == 20
    assert tradeoff.accuracy == 0.5  # right at 1, wrong at 1, wrong at 2, right at 2


@given(scored_sets(), st.data())
def test_higher_thresholds_never_cost_fewer_flops(scored: Scored, data: st.DataObject) -> None:
    exits, scored = len(scored.flops), replace(scored, heads=None)
    share = st.floats(0, 1)
    low = np.array([data.draw(share) for _ in range(exits - 1)] + [0.0])
    high = low + np.array([data.draw(share) for _ in range(exits - 1)] + [0.0])
    cheap, dear = apply_thresholds(scored, low), apply_thresholds(scored, high)
    assert cheap.mean_flops <= dear.mean_flops
    assert abs(sum(cheap.shares) - 1) < 1e-9


@given(scored_sets(), st.data())
def test_mean_flops_count_the_stages_run_and_the_heads_evaluated(
    scored: Scored, data: st.DataObject
) -> None:
    exits = len(scored.flops)
    heads = np.zeros(exits) if scored.heads is None else scored.heads
    trunks = np.diff(scored.flops, prepend=0.0) - heads
    early = [data.draw(st.sampled_from([0.0, 0.3, 0.9, 1.0, 2.0])) for _ in range(exits - 1)]
    thresholds = np.array([*early, 0.0])
    ends = [*scored.firsts[1:], exits]  # of the networks of a cascade
    spent = []
    for confidence in scored.confidence.T:
        taken = next(k for k in range(exits) if float(confidence[k]) >= thresholds[k])
        evaluated = [scored.heads is None or threshold <= 1 for threshold in thresholds]
        spent.append(0.0)
        for k in range(taken + 1):
            end = next(end for end in ends if end > k)
            runs = scored.heads is None or any(evaluated[k : min(end, taken + 1)])
            spent[-1] += runs * trunks[k] + evaluated[k] * heads[k]
    found = apply_thresholds(scored, thresholds)
    np.testing.assert_allclose(
        [found.mean_flops, found.std_flops], [np.mean(spent), np.std(spent)], atol=1e-6
    )
