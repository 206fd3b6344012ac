from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from offramp.bundle.manifest import Manifest, OperatingPoint, read_manifest
from serving.engine.batch import Batch
from serving.engine.budgets.points import default_budget
from serving.engine.opinion import Opinion
from serving.engine.policy import Policy, resolve, resolve_again
from serving.engine.request import Request
from serving.errors import (
    BudgetTooLowError,
    ParameterError,
    UnknownBudgetError,
    UnknownPromiseError,
)
from tests.serving.scheduling import request


def test_the_default_budget_is_medium_or_the_last_named(manifest: Manifest) -> None:
    assert resolve(manifest) == resolve(manifest, budget="medium")
    fewer = {name: manifest.budgets[name] for name in ("high", "low")}
    assert default_budget(manifest.model_copy(update={"budgets": fewer})) == "low"


@pytest.mark.parametrize("name", ["low", "medium", "high", "full"])
def test_a_named_budget_has_the_thresholds_of_the_manifest(manifest: Manifest, name: str) -> None:
    policy = resolve(manifest, budget=name)
    assert policy == Policy(name, name, manifest.budgets[name].thresholds)


@given(share=st.decimals(0, 200, places=3))
def test_a_numeric_budget_is_the_best_point_within_its_flops(
    manifest: Manifest, share: Decimal
) -> None:
    flops = float(share) / 100 * manifest.full_flops
    affordable = [point for point in manifest.curve if point.mean_flops.value <= flops]
    if not affordable:
        with pytest.raises(BudgetTooLowError):
            resolve(manifest, budget=f"{share}%")
        return
    policy = resolve(manifest, budget=f"{share}%")
    chosen = [point for point in affordable if point.thresholds == policy.thresholds]
    assert chosen
    assert chosen[0].accuracy.value == max(point.accuracy.value for point in affordable)
    assert (policy.name, policy.asked) == ("numeric", f"{share}%")


def stated(manifest: Manifest, share: int) -> OperatingPoint:
    """Return the point of the curve that a share of full depth's flops selects, in thousandths."""
    thresholds = resolve(manifest, budget=f"{share / 10}%").thresholds
    return next(each for each in reversed(manifest.curve) if each.thresholds == thresholds)


@given(shares=st.tuples(st.integers(0, 1000), st.integers(0, 1000)))
def test_a_dearer_numeric_budget_is_never_stated_worse(
    manifest: Manifest, shares: tuple[int, int]
) -> None:
    cheapest = manifest.curve[0].mean_flops.value / manifest.full_flops
    low, high = sorted(max(share, math.ceil(1000 * cheapest)) for share in shares)
    cheaper, dearer = stated(manifest, low), stated(manifest, high)
    assert cheaper.accuracy.value <= dearer.accuracy.value
    assert cheaper.mean_flops.value <= dearer.mean_flops.value


def test_of_equally_accurate_points_the_dearest_is_selected(manifest: Manifest) -> None:
    curve = [
        each.model_copy(update={"accuracy": manifest.curve[0].accuracy}) for each in manifest.curve
    ]
    same = manifest.model_copy(update={"curve": tuple(curve)})
    assert resolve(same, budget="100%").thresholds == curve[-1].thresholds


@pytest.mark.parametrize(
    ("one", "other"),
    [("0.43M", "430k"), ("0.43m", "430000"), ("0.00043G", "430K"), ("100%", "700000")],
)
def test_units_of_flops(manifest: Manifest, one: str, other: str) -> None:
    assert resolve(manifest, budget=one).thresholds == resolve(manifest, budget=other).thresholds


def test_below_the_cheapest_point_the_error_names_a_number_that_works(manifest: Manifest) -> None:
    with pytest.raises(BudgetTooLowError, match="at least") as caught:
        resolve(manifest, budget="1k")
    remedy = str(caught.value).split("at least ")[1].split(" flops")[0]
    assert resolve(manifest, budget=remedy).thresholds == manifest.curve[0].thresholds


@given(budget=st.text(max_size=70))
def test_any_other_budget_is_unknown_and_the_error_lists_the_names(
    manifest: Manifest, budget: str
) -> None:
    assume(not budget[:1].isdigit() and budget not in manifest.budgets)
    with pytest.raises(UnknownBudgetError, match="low, medium, high, full"):
        resolve(manifest, budget=budget)


@pytest.mark.parametrize("budget", ["-1", "1e6", "", "40 %", "12T", "١٢", "nan", "inf", "%"])
def test_a_budget_that_is_not_a_number_is_unknown(manifest: Manifest, budget: str) -> None:
    with pytest.raises(UnknownBudgetError, match="flops"):
        resolve(manifest, budget=budget)


@given(confidence=st.floats(0, 1))
def test_min_confidence_is_one_threshold_at_every_exit_but_the_last(
    manifest: Manifest, confidence: float
) -> None:
    policy = resolve(manifest, min_confidence=confidence)
    assert policy.name == "min_confidence"
    assert policy.thresholds == (confidence,) * 3 + (0.0,)


@given(confidence=st.floats(0, 1))
def test_the_words_of_min_confidence_give_the_same_policy_again(
    manifest: Manifest, confidence: float
) -> None:
    policy = resolve(manifest, min_confidence=confidence)
    assert resolve_again(policy, manifest).thresholds == policy.thresholds


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan, math.inf])
def test_min_confidence_outside_0_to_1(manifest: Manifest, confidence: float) -> None:
    with pytest.raises(ParameterError, match="min_confidence: must be from 0 to 1"):
        resolve(manifest, min_confidence=confidence)


def test_budget_and_min_confidence_exclude_each_other(manifest: Manifest) -> None:
    with pytest.raises(ParameterError, match="exclude"):
        resolve(manifest, budget="low", min_confidence=0.5)


@pytest.mark.parametrize("asked", [{"budget": "low"}, {"budget": "90%"}, {"min_confidence": 0.5}])
def test_a_deadline_can_be_combined_with_any_budget(
    manifest: Manifest, asked: dict[str, Any]
) -> None:
    policy = resolve(manifest, **asked, deadline_ms=250)
    assert policy.deadline == 0.25
    assert policy.thresholds == resolve(manifest, **asked).thresholds


@pytest.mark.parametrize("deadline", [0, -5, math.nan, math.inf])
def test_a_deadline_is_above_0(manifest: Manifest, deadline: float) -> None:
    with pytest.raises(ParameterError, match=r"above 0 and finite, got .*; leave it out for no"):
        resolve(manifest, deadline_ms=deadline)


def test_the_time_left() -> None:
    assert Policy("p", "p", (0.0,)).seconds_left(5.0) is None
    assert Policy("p", "p", (0.0,), 0.5).seconds_left(2.0) == -1.5


def test_an_exit_is_evaluated_if_something_depends_on_it(manifest: Manifest) -> None:
    thresholds = (0.5, 2.0, 1.0, 0.0)
    assert Policy("p", "p", thresholds).asks == (True, False, True, True)
    assert Policy("p", "p", thresholds, deadline=1.0).asks == (True,) * 4
    assert Policy("p", "p", thresholds, explain=True).asks == (True,) * 4
    assert resolve(manifest, "full").asks == (False, False, False, True)
    assert resolve(manifest, "full", explain=True).asks == (True,) * 4
    assert resolve(manifest, min_confidence=1.0, explain=True).explain
    assert Policy("p", "p", (2.0,)).asks == (True,)


def opinion(confidence: float, *probabilities: float) -> Opinion:
    return Opinion(confidence, np.array(probabilities, np.float32))


def leaves(policy: Policy, stage: int, confidence: float) -> bool:
    return policy.decide(opinion(confidence), [None] * stage)


def test_a_request_leaves_if_the_confidence_reaches_the_threshold() -> None:
    policy = Policy("p", "p", (0.5, 2.0, 0.0))
    assert leaves(policy, 0, 0.5)
    assert not leaves(policy, 0, 0.49)
    assert not leaves(policy, 1, 1.0)  # a threshold above 1 is never reached
    assert leaves(policy, 2, 0.0)
    assert leaves(policy, 0, math.nan)


def test_at_the_last_exit_every_request_leaves() -> None:
    assert leaves(Policy("full", "full", (2.0, 0.0)), 1, -1e-7)


class Patience(Policy):
    """Leave at the first exit that predicts the same class as the exit before it."""

    def decide(self, opinion: Opinion, earlier: Sequence[Opinion | None]) -> bool:
        if len(earlier) == len(self.thresholds) - 1:
            return True
        before = earlier[-1] if earlier else None
        same = (
            before is not None and before.probabilities.argmax() == opinion.probabilities.argmax()
        )
        return bool(same)


def test_a_policy_without_thresholds_is_one_class() -> None:
    policy = Patience("patience", "patience", (1.0, 1.0, 1.0, 0.0))
    assert policy.asks == (True,) * 4
    call = request().call
    requests = tuple(Request(policy, slot, 0.0, 0.0, call) for slot in range(2))
    continuing = []
    for stage, rows in enumerate([[[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.4, 0.6]]]):
        probabilities = np.array(rows, np.float32)
        decision = Batch(stage, requests).decide(probabilities.max(1), probabilities)
        for each, found in zip(requests, decision.opinions, strict=True):
            each.opinions.append(found)
        continuing.append(decision.continuing)
    assert continuing == [[0, 1], [1]]


def test_reject_needs_thresholds_in_the_bundle(manifest: Manifest, reject_bundle: Path) -> None:
    rejecting = read_manifest(reject_bundle)
    assert rejecting.reject is not None
    assert resolve(rejecting, reject=True).reject == rejecting.reject.thresholds
    assert resolve(rejecting, min_confidence=0.5, reject=True).reject is not None
    assert resolve(rejecting).reject is None
    with pytest.raises(ParameterError, match=r"^reject: .*offramp export or recalibrate"):
        resolve(manifest, reject=True)


@pytest.mark.parametrize(
    "asked",
    [
        {"budget": "low"},
        {"budget": "40%"},
        {"budget": "0.3M"},
        {"min_confidence": 0.7},
        {"promise": "95%"},
        {"promise": "harm:2%", "budget": "full"},
    ],
)
def test_the_words_of_a_policy_give_that_of_another_bundle(
    manifest: Manifest, promise_bundle: Path, asked: dict[str, Any]
) -> None:
    promising = read_manifest(promise_bundle)
    policy = resolve(promising, **asked)
    assert resolve_again(policy, promising) == policy
    hurried = resolve_again(resolve(promising, **asked, deadline_ms=5), promising)
    assert (hurried.thresholds, hurried.deadline) == (policy.thresholds, None)
    assert hurried.asks == (True,) * 4
    if "promise" in asked:
        with pytest.raises(UnknownPromiseError):
            resolve_again(policy, manifest)
    else:
        assert resolve_again(policy, manifest) == resolve(manifest, **asked)
