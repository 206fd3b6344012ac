"""The points that can answer a broken promise: safer ones, up to full depth."""

from __future__ import annotations

import pytest

from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import LossesOfExit
from serving.engine.background.ladder import ladders
from serving.settings import OnBroken


@pytest.mark.parametrize(
    ("on_broken", "expected"),
    [
        ("keep", [("99%",), ("95%",), ("harm:2%",)]),
        ("full", [("99%", "full"), ("95%", "full"), ("harm:2%", "full")]),
        (
            "safer",
            [("99%", "full"), ("95%", "99%", "full"), ("harm:2%", "95%", "99%", "full")],
        ),
    ],
)
def test_a_ladder_goes_from_the_promise_to_safer_points(
    promising: Manifest, on_broken: OnBroken, expected: list[tuple[str, ...]]
) -> None:
    assert promising.promises is not None
    found = [*ladders(promising, on_broken)]
    assert [ladder.promise.ladder for ladder in found] == expected
    by_level = {str(each.level): each.thresholds for each in promising.promises.offered}
    by_level["full"] = (2.0, 2.0, 2.0, 0.0)
    for ladder in found:
        names = ladder.promise.ladder
        assert [*ladder.thresholds] == [by_level[name] for name in names]


def test_each_promise_is_judged_at_the_level_that_it_was_certified_at(promising: Manifest) -> None:
    promises = [ladder.promise for ladder in ladders(promising, "keep")]
    assert [promise.label for promise in promises] == [
        "promise-99",
        "promise-95",
        "promise-harm-2",
    ]
    assert {promise.alpha for promise in promises} == {0.05 / 3}
    assert [promise.judged for promise in promises] == [True, True, False]


def test_audits_of_all_answers_break_a_promise_at_each_exit_and_do_not_support_it(
    promising: Manifest,
) -> None:
    assert promising.promises is not None
    safe, other, harm = promising.promises.offered
    exits = tuple(LossesOfExit(losses=k, images=900) for k in (3, 2, 0))
    each = other.model_copy(update={"kind": "exit", "by_exit": exits})
    promises = promising.promises.model_copy(update={"offered": (safe, each, harm)})
    found = [*ladders(promising.model_copy(update={"promises": promises}), "safer")]
    assert [(one.promise.judged, one.promise.supported) for one in found] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    assert found[1].promise.ladder == ("exit:95%", "full")  # audits support no point between


def test_a_bundle_without_promises_has_no_ladder(manifest: Manifest) -> None:
    assert [*ladders(manifest, "safer")] == []
