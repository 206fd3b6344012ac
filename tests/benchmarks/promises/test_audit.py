from __future__ import annotations

import numpy as np

from benchmarks.corruptions import opened
from benchmarks.promises.audit import (
    CLEAN,
    WORST,
    Row,
    false_alarms,
    goals,
    has_alarm,
    spoiled,
)
from deploy.check.samples import images
from serving.audit.standing import AuditedPromise

PROMISE = AuditedPromise("promise-95", 0.05, 0.02, ("95%", "full"))


def test_an_alarm_is_seldom_on_clean_images_and_certain_on_others() -> None:
    clean = np.random.default_rng(2).random(4000) < 0.03
    rows = [*false_alarms(PROMISE, clean, 30, 400)]
    assert [row.images for row in rows] == [CLEAN, WORST]
    assert all(row.alarms <= 0.1 for row in rows)
    assert has_alarm(np.random.default_rng(2).random(1000) < 0.2, PROMISE)


def test_goals_are_missed_by_alarms_late_alarms_and_points_that_restore_nothing() -> None:
    def met(alarms: float, soon: float, within: float) -> list[bool]:
        clean = Row("promise-95", CLEAN, 0.03, alarms)
        noise = Row("promise-95", "noise 0.2", 0.2, 1.0, soon, 300, 1200, 1300, "full", 0.0, within)
        weak = Row("promise-95", "blur 1", 0.1, 0.2, 0.1, 3000, 4000, 4000, "95%", 0.1, 0.2)
        return [goal.met for goal in goals([clean, noise, weak], {"promise-95": 0.05}, 30)]

    assert met(0.05, 0.96, 0.97) == [True, True, True]
    assert met(0.06, 0.94, 0.94) == [False, False, False]


def test_an_alarm_about_clean_images_that_break_a_promise_is_right() -> None:
    worst = Row("promise-95", WORST, 0.05, 0.01)
    for disagreement, missed in ((0.051, False), (0.049, True)):
        clean = Row("promise-95", CLEAN, disagreement, 0.9)
        (goal,) = goals([clean, worst], {"promise-95": 0.05}, 30)
        assert goal.met is not missed


def test_images_are_spoiled_by_noise_and_blur_of_a_strength() -> None:
    clean = images()[0]
    assert spoiled(clean, 0, CLEAN) == clean
    apart = {
        kind: np.abs(np.array(opened(spoiled(clean, 0, kind)), float) - opened(clean)).mean()
        for kind in ("noise 0.2", "noise 0.3", "blur 1", "blur 2")
    }
    assert 20 < apart["noise 0.2"] < 1.2 * apart["noise 0.2"] < apart["noise 0.3"]
    assert 0 < apart["blur 1"] < apart["blur 2"] < apart["noise 0.3"]
