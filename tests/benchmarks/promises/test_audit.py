from __future__ import annotations

import math

import numpy as np

from benchmarks.promises.audit import (
    CLEAN,
    NOISE,
    Row,
    at_losses,
    false_alarms,
    goals,
    has_alarm,
    past,
)
from serving.audit.ledger import AuditedPromise
from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence

PROMISE = AuditedPromise("promise-95", 0.05, 0.02, ("95%", "full"))


def test_the_sequence_at_each_loss_is_that_of_results_added_one_by_one() -> None:
    losses = np.random.default_rng(2).random(3 * BLOCK + 10) < 0.02
    sequence, expected = ConfidenceSequence(), []
    for loss in losses.tolist():
        sequence = sequence.add("disagreement" if loss else "agreement")
        expected += [sequence] if loss else []
    assert [*at_losses(losses)] == expected


def test_a_past_has_as_many_marks_as_a_sequence_keeps() -> None:
    sequence = past(0.01, 40 * BLOCK, np.random.default_rng(2))
    assert (sequence.trials, len(sequence.marks)) == (40 * BLOCK, MARKS)
    assert sequence.marks[-1] == sequence.losses
    assert past(0.01, 0, np.random.default_rng(2)) == ConfidenceSequence()


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
