from __future__ import annotations

import math

import numpy as np

from benchmarks.promises.audit import (
    CLEAN,
    NOISE,
    Row,
    false_alarms,
    goals,
    has_alarm,
)
from serving.audit.ledger import AuditedPromise

PROMISE = AuditedPromise("promise-95", 0.05, 0.02, ("95%", "full"))


def test_an_alarm_is_seldom_on_clean_images_and_certain_on_others() -> None:
    clean = np.random.default_rng(2).random(4000) < 0.03
    rows = [*false_alarms(PROMISE, clean, 30, 400)]
    assert [row.images for row in rows] == [CLEAN, "worst"]
    assert all(row.alarms <= 0.1 for row in rows)
    assert has_alarm(np.random.default_rng(2).random(1000) < 0.2, PROMISE)


def test_goals_are_missed_by_alarms_late_alarms_and_points_that_restore_nothing() -> None:
    def met(alarms: float, audits: float, restored: float) -> list[bool]:
        clean = Row("promise-95", CLEAN, 0.03, alarms)
        noise = Row("promise-95", NOISE, 0.2, 1.0, audits, audits, "full", restored)
        return [goal.met for goal in goals([clean, noise], {"promise-95": 0.05}, 30)]

    assert met(0.05, 300, 0.04) == [True, True, True]
    assert met(0.06, math.inf, 0.06) == [False, False, False]
