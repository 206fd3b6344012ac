"""Simulated audits: against sequences that grow one by one, and the fastest test there is."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.promises.alarms import (
    WANTED,
    after_a_change,
    at_losses,
    audits_if_all_is_known,
    audits_to_alarm,
    from_the_first,
    moves_of,
    past_of,
)
from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence
from serving.audit.standing import AuditedPromise


def grown(sequence: ConfidenceSequence, losses: list[bool]) -> list[ConfidenceSequence]:
    """Return the sequence after each loss, with results added one by one."""
    found = []
    for loss in losses:
        sequence = sequence.add("disagreement" if loss else "agreement")
        found += [sequence] if loss else []
    return found


def test_the_sequence_at_each_loss_is_that_of_results_added_one_by_one() -> None:
    rng = np.random.default_rng(2)
    losses = rng.random(3 * BLOCK + 10) < 0.02
    for past in (ConfidenceSequence(), past_of(0.01, 40 * BLOCK, rng), past_of(0.01, 777, rng)):
        assert [*at_losses(losses, past)] == grown(past, losses.tolist())


def test_a_past_has_as_many_marks_as_a_sequence_keeps() -> None:
    sequence = past_of(0.01, 40 * BLOCK, np.random.default_rng(2))
    assert (sequence.trials, len(sequence.marks)) == (40 * BLOCK, MARKS)
    assert sequence.marks[-1] == sequence.losses
    later = past_of(0.5, BLOCK + 200, np.random.default_rng(2))
    assert (later.trials, len(later.marks)) == (BLOCK + 200, 1)
    assert later.marks[0] < later.losses
    assert past_of(0.01, 0, np.random.default_rng(2)) == ConfidenceSequence()


def test_the_audits_to_an_alarm_are_counted_from_the_change_on() -> None:
    losses, none = np.ones(100, dtype=bool), np.zeros(100, dtype=bool)
    past = past_of(0.0, 10 * BLOCK, np.random.default_rng(2))
    few, more = audits_to_alarm(losses, 0.05), audits_to_alarm(losses, 0.05, past)
    known = audits_if_all_is_known(losses, 0.05, 0.5)
    assert known == math.ceil(WANTED / math.log(10))
    assert known <= few < more < 10
    assert audits_to_alarm(none, 0.05) == audits_if_all_is_known(none, 0.05, 0.5) == math.inf


def test_the_moves_of_a_promise_are_an_alarm_and_points_that_audits_support() -> None:
    promise = AuditedPromise("promise-95", 0.05, 0.02, ("95%", "98%", "99%", "full"))
    losses = np.random.default_rng(2).random((4, 2000)) < np.array([[0.3], [0.3], [0.01], [0.0]])
    (alarm, full), (supported, safer) = moves_of(
        promise, past_of(0.03, 777, np.random.default_rng(2)), losses
    )
    assert alarm < supported
    assert [promise.ladder[point] for point in (full, safer)] == ["full", "99%"]
    assert [*moves_of(promise, ConfidenceSequence(), losses[:, :0])] == []


def test_the_tables_have_a_line_for_each_promise() -> None:
    assert [len([*each]) for each in (from_the_first(1), after_a_change(2, 0))] == [5, 5]
