"""The order of turns, one step at a time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.scheduling.turn_order import BUSY, LEAST, PAUSE, RECENT, TurnOrder, Use

MODELS = 3
SECONDS = 0.01  # of a request of each model alone
steps = st.lists(
    st.tuples(
        st.sampled_from(["wait", "start", "end", "tick"]),
        st.integers(0, MODELS - 1),
        st.floats(0.0, 0.1),
    ),
    max_size=80,
)


class Batches:
    """Batches of some models, each at its time."""

    def __init__(self, cores: int, *seconds: float) -> None:
        self.order, self.now = TurnOrder(cores), 0.0
        self.uses = [Use(each) for each in seconds]

    def ready(self) -> list[Use]:
        return [each for each in self.uses if each.waiting and self.order.can_start(each, self.now)]

    def start(self, model: Use) -> None:
        self.order.wait(model, self.now)
        self.order.start(model, self.now)

    def run(self, model: Use, seconds: float) -> None:
        self.start(model)
        self.now += seconds
        self.order.end(model, seconds, self.now)
        self.order.looked(model, self.now)

    def flood(self, model: Use) -> None:
        """Let a model have batches without a pause, one of which still runs."""
        self.start(model)
        until = self.now + 2 * BUSY
        while self.now < until:
            self.start(model)
            self.now += SECONDS
            self.order.end(model, SECONDS, self.now)
            self.order.looked(model, self.now)

    def longest(self, model: Use) -> float:
        return self.order.longest(model, self.now)


@given(st.integers(1, 4), steps)
def test_a_batch_starts_if_a_core_is_free_or_its_light_model_waited_long(
    cores: int, steps: list[tuple[str, int, float]]
) -> None:
    batches, beyond = Batches(cores, *[SECONDS] * MODELS), 0
    for step, number, seconds in steps:
        model = batches.uses[number]
        batches.now += seconds
        if step == "wait":
            batches.order.wait(model, batches.now)
        elif step == "start" and model in batches.ready():
            batches.order.start(model, batches.now)
        elif step == "end" and model.running:
            batches.order.end(model, seconds, batches.now)
        running = sum(each.running for each in batches.uses)
        beyond = max(0, running - cores)
        ready = batches.ready()
        if running < cores:
            assert bool(ready) == any(each.waiting for each in batches.uses)
        else:
            light = [each for each in ready if batches.order.is_light(each, batches.now)]
            assert ready == light
            assert not any(each.running for each in ready)
        assert beyond < MODELS
        for each in batches.uses:
            assert batches.longest(each) in (SECONDS, math.inf)


def test_of_models_that_wait_the_one_that_used_the_cores_less_goes_first() -> None:
    batches = Batches(2, SECONDS, SECONDS)
    flood, other = batches.uses
    batches.flood(flood)
    batches.run(other, SECONDS)
    batches.start(flood)
    batches.order.wait(flood, batches.now)
    batches.order.wait(other, batches.now)
    assert batches.ready() == []
    batches.order.end(flood, SECONDS, batches.now)
    assert batches.ready() == [other]
    batches.order.start(other, batches.now)
    batches.order.end(flood, SECONDS, batches.now)
    assert batches.ready() == [flood]


@pytest.mark.parametrize(("seconds", "longest"), [(0.02, 0.02), (1e-4, LEAST)])
def test_a_flood_takes_short_turns_while_a_light_model_is_in_use(
    seconds: float, longest: float
) -> None:
    batches = Batches(2, SECONDS, seconds)
    flood, other = batches.uses
    batches.flood(flood)
    assert batches.longest(flood) == math.inf
    batches.order.wait(other, batches.now)
    assert batches.longest(flood) == longest
    assert batches.longest(other) == math.inf
    batches.order.start(other, batches.now)
    batches.order.end(other, seconds, batches.now)
    batches.order.looked(other, batches.now)
    batches.now += RECENT
    assert batches.longest(flood) == longest
    batches.now += PAUSE
    assert batches.longest(flood) == math.inf


def test_two_floods_take_turns_of_any_length() -> None:
    batches = Batches(2, SECONDS, SECONDS)
    for model in batches.uses:
        batches.start(model)
    until = batches.now + 2 * BUSY
    while batches.now < until:
        for model in batches.uses:
            batches.run(model, SECONDS)
    assert [batches.longest(model) for model in batches.uses] == [math.inf] * 2


def test_a_model_without_a_pause_that_gets_less_than_others_is_light() -> None:
    batches = Batches(2, SECONDS, SECONDS)
    flood, other = batches.uses
    batches.flood(other)
    batches.flood(flood)
    batches.flood(flood)
    assert batches.longest(flood) == SECONDS
    assert batches.longest(other) == math.inf


def test_a_model_that_pauses_is_light_again() -> None:
    batches = Batches(2, SECONDS, SECONDS)
    flood, other = batches.uses
    batches.flood(other)
    batches.flood(flood)
    batches.order.end(other, SECONDS, batches.now)
    batches.order.looked(other, batches.now)
    batches.now += 2 * PAUSE
    assert batches.longest(flood) == SECONDS
    batches.order.wait(other, batches.now)
    assert batches.longest(flood) == SECONDS


def test_a_thread_that_loses_its_core_between_two_batches_is_no_pause() -> None:
    batches = Batches(2, SECONDS, SECONDS)
    flood, other = batches.uses
    batches.run(other, SECONDS)
    batches.flood(flood)
    batches.order.end(flood, SECONDS, batches.now)
    batches.now += 2 * PAUSE
    assert not batches.order.is_light(flood, batches.now)
    batches.order.wait(flood, batches.now)
    batches.order.looked(flood, batches.now)
    assert not batches.order.is_light(flood, batches.now)
    batches.order.start(flood, batches.now)
    batches.order.end(flood, SECONDS, batches.now)
    batches.order.looked(flood, batches.now)
    batches.now += PAUSE / 2
    assert not batches.order.is_light(flood, batches.now)
    batches.now += PAUSE
    assert batches.order.is_light(flood, batches.now)


def test_a_light_model_does_not_shorten_the_turns_of_one_that_used_the_cores_less() -> None:
    batches = Batches(2, SECONDS, SECONDS)
    more, less = batches.uses
    for _ in range(3):
        batches.run(more, SECONDS)
    batches.run(less, SECONDS)
    assert batches.order.is_light(more, batches.now)
    assert batches.longest(more) == SECONDS
    assert batches.longest(less) == math.inf


def test_a_light_model_does_not_wait_longer_than_one_of_its_requests_takes() -> None:
    batches = Batches(1, 1.0, SECONDS)
    flood, other = batches.uses
    batches.start(flood)
    batches.order.wait(other, batches.now)
    assert batches.ready() == []
    batches.now += SECONDS
    assert batches.ready() == [other]
    batches.now += BUSY
    assert batches.ready() == [other]
    batches.order.start(other, batches.now)
    batches.order.wait(other, batches.now)
    batches.now += SECONDS
    assert batches.ready() == []
