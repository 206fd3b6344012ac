from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Level, parse_level
from serving.engine.policy import Promised, resolve, resolve_again
from serving.errors import BudgetTooLowError, UnknownPromiseError


@pytest.fixture(scope="module")
def manifest(promise_bundle: Path) -> Manifest:
    return read_manifest(promise_bundle)


def test_a_promise_gives_the_thresholds_the_label_and_the_record(manifest: Manifest) -> None:
    assert manifest.promises is not None
    policy = resolve(manifest, promise="98%", deadline_ms=50)
    assert policy.thresholds == manifest.promises.offered[0].thresholds
    assert (policy.name, policy.asked) == ("promise-99", "promise=98%")
    assert policy.promise == Promised(Level("agreement", 0.01), 0.05)
    assert policy.deadline == 0.05
    assert not policy.plain


def test_a_policy_is_plain_if_its_answers_have_no_further_field(manifest: Manifest) -> None:
    assert resolve(manifest, "low").plain
    assert resolve(manifest, min_confidence=0.5, deadline_ms=9).plain
    assert not resolve(manifest, "low", explain=True).plain
    assert not resolve(manifest, "safe").plain


def test_the_budget_of_a_promise_bounds_its_point_in_another_bundle(manifest: Manifest) -> None:
    policy = resolve(manifest, promise="95%", budget="full")
    assert policy.asked == "promise=95%"
    assert resolve_again(policy, manifest) == policy
    cheaper = {**manifest.budgets, "full": manifest.budgets["low"]}
    with pytest.raises(BudgetTooLowError):
        resolve_again(policy, manifest.model_copy(update={"budgets": cheaper}))


@given(st.decimals("0.01", "99.99", places=2), st.booleans())
def test_what_is_answered_implies_what_is_asked(
    manifest: Manifest,
    share: object,
    harm: bool,
) -> None:
    asked = f"harm:{share}%" if harm else f"{share}%"
    level, record = parse_level(asked), manifest.promises
    assert record is not None
    holding = [each for each in record.offered if each.level.holds(level)]
    if not holding:
        with pytest.raises(UnknownPromiseError):
            resolve(manifest, promise=asked)
        return
    policy = resolve(manifest, promise=asked)
    assert policy.promise is not None
    assert policy.promise.level.holds(level)
    cheapest = min(holding, key=lambda each: each.mean_flops.value)
    assert policy.thresholds == cheapest.thresholds
