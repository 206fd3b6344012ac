from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.bundle.manifest import Manifest
from serving.engine.budgets.milliseconds import REFRESH_SECONDS, Milliseconds
from serving.engine.latency import Latency
from serving.engine.policy import resolve
from serving.errors import BudgetTooLowError, UnknownBudgetError

HEADS = [[1e-3], [2e-3], [3e-3], [4e-3]]  # seconds of the stages with their heads, for one image
BARE = [[0.5e-3], [1e-3], [2e-3], [1e-7]]


def latency(*, whole_network: bool = False) -> Latency:
    return Latency([1], HEADS, BARE, whole_network=[5e-3] if whole_network else None)


@pytest.fixture
def milliseconds(manifest: Manifest) -> Milliseconds:
    return Milliseconds(manifest, latency())


def test_a_point_takes_the_mean_over_its_exits(
    manifest: Manifest, milliseconds: Milliseconds
) -> None:
    shares = [share.value for share in manifest.budgets["medium"].exit_shares]
    expected = sum(np.array(shares) * np.cumsum([1, 2, 3, 4])) / sum(shares)
    assert milliseconds.times.mean(manifest.budgets["medium"]) == pytest.approx(expected)


def test_heads_of_closed_exits_take_no_time(manifest: Manifest, milliseconds: Milliseconds) -> None:
    full = manifest.budgets["full"]
    assert milliseconds.times.mean(full) == pytest.approx(0.5 + 1 + 2 + 4)
    assert milliseconds.times.mean(full, every_exit=True) == pytest.approx(1 + 2 + 3 + 4)


def test_full_depth_takes_the_time_of_the_whole_network_as_one_graph(manifest: Manifest) -> None:
    one_graph = Milliseconds(manifest, latency(whole_network=True))
    assert one_graph.times.mean(manifest.budgets["full"]) == pytest.approx(5)
    assert one_graph.times.mean(manifest.budgets["full"], every_exit=True) == pytest.approx(10)
    low, apart = manifest.budgets["low"], Milliseconds(manifest, latency())
    assert one_graph.times.mean(low) == apart.times.mean(low)


@given(asked=st.floats(1.0, 12.0))
def test_a_budget_takes_the_time_asked_for_or_that_of_the_dearest_point(
    manifest: Manifest, asked: float
) -> None:
    milliseconds = Milliseconds(manifest, latency())
    means = milliseconds.times.of_curve()
    found = milliseconds.within(asked)
    assert found.timed.milliseconds <= asked + 1e-9
    below = [mean for mean in means if mean <= asked]
    assert found.timed.milliseconds >= below[-1] - 1e-9
    if below[-1] < asked < means[-2]:  # between the last two an exit closes
        assert found.timed.milliseconds == pytest.approx(asked)
        low, high = manifest.curve[len(below) - 1], manifest.curve[len(below)]
        limits = zip(low.thresholds, found.thresholds, high.thresholds, strict=True)
        assert all(min(a, b) <= t <= max(a, b) for a, t, b in limits)


def test_below_the_cheapest_point_the_error_names_a_budget_that_works(
    milliseconds: Milliseconds,
) -> None:
    with pytest.raises(BudgetTooLowError, match="at least") as caught:
        milliseconds.within(0.01)
    remedy = str(caught.value).split("at least ")[1].split("ms")[0]
    assert milliseconds.within(float(remedy)).timed.milliseconds <= float(remedy)


def test_a_machine_that_slows_down_answers_by_its_cheapest_point(manifest: Manifest) -> None:
    now, model = [0.0], latency()
    milliseconds = Milliseconds(manifest, model, lambda: now[0])
    for _ in range(400):
        model.observe(0, 1, 2e-3)
    now[0] += REFRESH_SECONDS
    found = milliseconds.within(1.1)
    assert found.thresholds == manifest.curve[0].thresholds
    assert found.timed.milliseconds == pytest.approx(2, rel=0.1)
    with pytest.raises(BudgetTooLowError, match="at least 1ms"):
        milliseconds.within(0.9)


def test_times_are_read_anew_after_a_while(manifest: Manifest) -> None:
    now, model = [0.0], latency()
    milliseconds = Milliseconds(manifest, model, lambda: now[0])
    before, version = milliseconds.times.of_curve(), milliseconds.version()
    for _ in range(400):
        model.observe(0, 1, 3e-3)
    assert milliseconds.times.of_curve() == before
    now[0] += REFRESH_SECONDS
    assert milliseconds.version() != version
    assert milliseconds.times.with_head[0] == pytest.approx(3, rel=0.1)
    assert milliseconds.times.of_curve()[0] > before[0]


def test_a_policy_says_what_its_budget_stands_for(
    manifest: Manifest, milliseconds: Milliseconds
) -> None:
    policy = resolve(manifest, "4ms", milliseconds=milliseconds)
    assert (policy.name, policy.asked, policy.plain) == ("numeric", "4ms", False)
    assert policy.timed is not None
    assert policy.timed.milliseconds == pytest.approx(4)
    assert manifest.curve[0].mean_flops.value < policy.timed.flops < manifest.full_flops
    assert resolve(manifest, "4M", milliseconds=milliseconds).timed is None


def test_a_deadline_evaluates_every_exit_so_that_less_can_be_spent(
    manifest: Manifest, milliseconds: Milliseconds
) -> None:
    alone = resolve(manifest, "8ms", milliseconds=milliseconds)
    hurried = resolve(manifest, "8ms", deadline_ms=100, milliseconds=milliseconds)
    assert alone.thresholds == manifest.curve[-1].thresholds  # its heads are skipped
    assert hurried.thresholds != alone.thresholds


@pytest.mark.parametrize("budget", ["-1ms", "ms", "1e3ms", "8 ms", "8MS", "8s", "nanms", "٨ms"])
def test_other_texts_are_unknown(
    manifest: Manifest, milliseconds: Milliseconds, budget: str
) -> None:
    with pytest.raises(UnknownBudgetError, match="8ms"):
        resolve(manifest, budget, milliseconds=milliseconds)


def test_without_times_of_a_machine_milliseconds_are_unknown(manifest: Manifest) -> None:
    with pytest.raises(UnknownBudgetError, match="depends on the machine"):
        resolve(manifest, "8ms")
