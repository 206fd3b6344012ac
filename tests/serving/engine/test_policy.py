import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.engine.policy import Policy, default_budget, resolve
from serving.errors import BudgetTooLowError, ParameterError, UnknownBudgetError


def test_no_budget_is_medium_or_the_last_named(manifest) -> None:
    assert resolve(manifest) == resolve(manifest, budget="medium")
    fewer = {name: manifest.budgets[name] for name in ("high", "low")}
    assert default_budget(manifest.model_copy(update={"budgets": fewer})) == "low"


@pytest.mark.parametrize("name", ["low", "medium", "high", "full"])
def test_a_named_budget_has_the_thresholds_of_the_manifest(manifest, name) -> None:
    policy = resolve(manifest, budget=name)
    assert policy == Policy(name, name, manifest.budgets[name].thresholds)


@given(share=st.decimals(0, 200, places=3))
def test_a_numeric_budget_is_the_best_point_that_is_not_dearer(manifest, share) -> None:
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


@pytest.mark.parametrize(
    ("one", "other"),
    [("0.43M", "430k"), ("0.43m", "430000"), ("0.00043G", "430K"), ("100%", "700000")],
)
def test_units_of_flops(manifest, one, other) -> None:
    assert resolve(manifest, budget=one).thresholds == resolve(manifest, budget=other).thresholds


def test_below_the_cheapest_point_the_error_names_a_number_that_works(manifest) -> None:
    with pytest.raises(BudgetTooLowError, match="at least") as caught:
        resolve(manifest, budget="1k")
    remedy = str(caught.value).split("at least ")[1].split(" flops")[0]
    assert resolve(manifest, budget=remedy).thresholds == manifest.curve[0].thresholds


@given(budget=st.text(max_size=70))
def test_any_other_budget_is_unknown_and_the_error_lists_the_names(manifest, budget) -> None:
    assume(not budget[:1].isdigit() and budget not in manifest.budgets)
    with pytest.raises(UnknownBudgetError, match="low, medium, high, full"):
        resolve(manifest, budget=budget)


@pytest.mark.parametrize("budget", ["-1", "1e6", "", "40 %", "12T", "١٢", "nan", "inf", "%"])
def test_what_is_no_number_is_unknown(manifest, budget) -> None:
    with pytest.raises(UnknownBudgetError, match="flops"):
        resolve(manifest, budget=budget)


@given(confidence=st.floats(0, 1))
def test_min_confidence_is_one_threshold_at_every_exit_but_the_last(manifest, confidence) -> None:
    policy = resolve(manifest, min_confidence=confidence)
    assert policy.name == "min_confidence"
    assert policy.thresholds == (confidence,) * 3 + (0.0,)


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan, math.inf])
def test_min_confidence_outside_0_to_1(manifest, confidence) -> None:
    with pytest.raises(ParameterError, match="min_confidence: must be from 0 to 1"):
        resolve(manifest, min_confidence=confidence)


def test_budget_and_min_confidence_exclude_each_other(manifest) -> None:
    with pytest.raises(ParameterError, match="exclude"):
        resolve(manifest, budget="low", min_confidence=0.5)


@pytest.mark.parametrize("asked", [{"budget": "low"}, {"budget": "90%"}, {"min_confidence": 0.5}])
def test_a_deadline_goes_with_all(manifest, asked) -> None:
    policy = resolve(manifest, **asked, deadline_ms=250)
    assert policy.deadline == 0.25
    assert policy.thresholds == resolve(manifest, **asked).thresholds


@pytest.mark.parametrize("deadline", [0, -5, math.nan, math.inf])
def test_a_deadline_is_above_0(manifest, deadline) -> None:
    with pytest.raises(ParameterError, match="deadline_ms: must be above 0"):
        resolve(manifest, deadline_ms=deadline)


def test_the_time_left() -> None:
    assert Policy("p", "p", (0.0,)).seconds_left(5.0) is None
    assert Policy("p", "p", (0.0,), 0.5).seconds_left(2.0) == -1.5


def test_an_exit_is_asked_where_something_depends_on_it(manifest) -> None:
    thresholds = (0.5, 2.0, 1.0, 0.0)
    assert Policy("p", "p", thresholds).asks == (True, False, True, True)
    assert Policy("p", "p", thresholds, deadline=1.0).asks == (True,) * 4
    assert Policy("p", "p", thresholds, explain=True).asks == (True,) * 4
    assert resolve(manifest, "full").asks == (False, False, False, True)
    assert resolve(manifest, "full", explain=True).asks == (True,) * 4
    assert resolve(manifest, min_confidence=1.0, explain=True).explain
    assert Policy("p", "p", (2.0,)).asks == (True,)


def test_leaving() -> None:
    policy = Policy("p", "p", (0.5, 2.0, 0.0))
    assert policy.leaves(0, 0.5)
    assert not policy.leaves(0, 0.49)
    assert not policy.leaves(1, 1.0)  # a threshold above 1: nobody leaves there
    assert policy.leaves(2, 0.0)
    assert policy.leaves(0, math.nan)


def test_at_the_last_exit_everyone_leaves() -> None:
    assert Policy("full", "full", (2.0, 0.0)).leaves(1, -1e-7)
