"""Positions and sequences of promises, in the memory of one process and of several."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from serving.audit.ledger import Kept, Ledger
from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence, Result
from serving.audit.standing import AuditedPromise, Position

FEW = AuditedPromise("promise-99", 0.01, 0.02, ("99%", "full"))
MANY = AuditedPromise("promise-95", 0.05, 0.02, ("95%", "99%", "full"))
HARM = AuditedPromise("promise-harm-5", 0.05, 0.02, ("harm:5%",), judged=False)
EACH = AuditedPromise("promise-exit-95", 0.05, 0.02, ("exit:95%", "full"), supported=False)
ALL = (FEW, MANY, HARM, EACH)


def lose_until_broken(ledger: Ledger, promise: AuditedPromise, point: str) -> Position:
    for _ in range(100):
        if (moved := ledger.add(promise.label, point, "disagreement")) is not None:
            return moved
    raise AssertionError("it never broke")


def test_a_broken_promise_moves_to_full_depth_and_back_to_a_point_that_audits_support() -> None:
    ledger = Ledger(ALL)
    assert ledger.state(MANY.label) == "unproven"
    assert not ledger.tries(MANY.label)
    assert lose_until_broken(ledger, MANY, "95%") == (2, False)
    assert ledger.state(MANY.label) == "full"
    assert ledger.tries(MANY.label)
    assert ledger.sequence(MANY.label) == ConfidenceSequence()
    others: list[Result] = ["disagreement", "agreement", "agreement"]
    moves = [ledger.add(MANY.label, "full", "agreement", others) for _ in range(200)]
    assert [move for move in moves if move is not None] == [(1, False)]
    assert ledger.state(MANY.label) == "safer"
    assert not ledger.tries(MANY.label)
    assert lose_until_broken(ledger, MANY, "99%") == (2, False)
    assert not ledger.tries(MANY.label)
    assert ledger.position(FEW.label) == (0, False)


def test_on_a_ladder_with_one_point_a_broken_promise_stays_there() -> None:
    alone = AuditedPromise("promise-95", 0.05, 0.02, ("95%",))
    ledger = Ledger([alone])
    assert lose_until_broken(ledger, alone, "95%") == (0, True)
    assert ledger.state(alone.label) == "broken"
    losses = ledger.sequence(alone.label).losses
    assert ledger.add(alone.label, "95%", "disagreement") is None  # reported once
    assert ledger.sequence(alone.label).losses == losses + 1


def test_results_of_a_point_that_answers_no_more_are_not_added() -> None:
    ledger = Ledger(ALL)
    lose_until_broken(ledger, MANY, "95%")
    assert ledger.add(MANY.label, "95%", "disagreement") is None
    assert ledger.sequence(MANY.label).trials == 0


def test_disagreements_do_not_break_a_promise_about_harm_and_agreements_support_it() -> None:
    ledger = Ledger(ALL)
    for _ in range(100):
        assert ledger.add(HARM.label, "harm:5%", "disagreement") is None
    assert ledger.state(HARM.label) == "unproven"
    ledger = Ledger(ALL)
    for _ in range(200):
        ledger.add(HARM.label, "harm:5%", "agreement")
    assert ledger.state(HARM.label) == "held"


def test_audits_of_all_answers_do_not_support_a_promise_at_each_exit_and_can_break_it() -> None:
    ledger = Ledger(ALL)
    for _ in range(500):
        ledger.add(EACH.label, "exit:95%", "agreement")
    assert ledger.sequence(EACH.label).upper(EACH.alpha) < EACH.epsilon
    assert ledger.state(EACH.label) == "unproven"
    assert lose_until_broken(ledger, EACH, "exit:95%") == (1, False)
    assert ledger.state(EACH.label) == "full"


def test_workers_share_one_sequence(tmp_path: Path) -> None:
    workers = [Ledger(ALL, tmp_path / "audits") for _ in range(3)]
    for number in range(3 * BLOCK):
        result: Result = "disagreement" if number % 300 == 0 else "agreement"
        workers[number % 3].add(FEW.label, "99%", result)
    sequences = [worker.sequence(FEW.label) for worker in workers]
    assert sequences == [ConfidenceSequence(3 * BLOCK, 5, 0, (2, 4, 5))] * 3
    assert workers[0].revision == 3 * BLOCK
    moved = lose_until_broken(workers[1], MANY, "95%")
    assert [worker.position(MANY.label) for worker in workers] == [moved] * 3
    for number in range(30):
        workers[number % 3].add(MANY.label, "full", "agreement", ["agreement"] * 3)
    assert {worker.kept()[MANY.label].candidates for worker in workers} == {
        (ConfidenceSequence(30),)
    }


def test_only_the_first_worker_restores_what_was_kept(tmp_path: Path) -> None:
    kept = {FEW.label: Kept("99%", False, ConfidenceSequence(20, 1, 2))}
    first, second = (Ledger(ALL, tmp_path / "audits") for _ in range(2))
    assert first.restore(kept)
    first.add(FEW.label, "99%", "agreement")
    assert not second.restore(kept)
    assert second.sequence(FEW.label) == ConfidenceSequence(21, 1, 2)
    expected = Kept("99%", False, ConfidenceSequence(21, 1, 2), ladder=FEW.ladder)
    assert second.kept()[FEW.label] == expected


def test_a_long_sequence_is_kept_whole() -> None:
    sequence = ConfidenceSequence(BLOCK * 50 + 7, 900, 3, tuple(range(MARKS)))
    ledger = Ledger(ALL)
    ledger.restore({MANY.label: Kept("99%", False, sequence)})
    assert ledger.sequence(MANY.label) == sequence
    assert ledger.position(MANY.label) == (1, False)


def test_points_that_were_tried_on_another_ladder_are_tried_no_more() -> None:
    ledger = Ledger([AuditedPromise("promise-95", 0.05, 0.02, ("95%", "full"))])
    tried = (ConfidenceSequence(20), ConfidenceSequence(20))
    ledger.restore({"promise-95": Kept("full", False, ConfidenceSequence(20), tried)})
    assert ledger.position("promise-95") == (1, False)
    assert not ledger.tries("promise-95")


def test_a_promise_that_had_climbed_a_ladder_that_is_gone_is_broken() -> None:
    ledger = Ledger([AuditedPromise("promise-95", 0.05, 0.02, ("95%",))])
    ledger.restore({"promise-95": Kept("99%", False, ConfidenceSequence(20, 1))})
    assert ledger.position("promise-95") == (0, True)
    assert ledger.sequence("promise-95").trials == 0


@pytest.mark.parametrize("point", ["95%", "98%"])  # found broken, or on a ladder that is gone
def test_a_promise_that_was_found_broken_moves_if_its_new_ladder_goes_further(point: str) -> None:
    ledger = Ledger(ALL)
    ledger.restore({MANY.label: Kept(point, True, ConfidenceSequence(20, 9))})
    assert ledger.state(MANY.label) == "full"
    assert ledger.kept()[MANY.label].candidates == (ConfidenceSequence(),)


def test_a_promise_that_full_depth_answers_tries_the_points_of_a_new_ladder() -> None:
    """As with `--on-broken safer` after `full`. On the same ladder none is left to try."""
    for ladder, tried in ((("95%", "full"), True), (MANY.ladder, False), ((), False)):
        ledger = Ledger(ALL)
        ledger.restore({MANY.label: Kept("full", False, ConfidenceSequence(9), ladder=ladder)})
        assert ledger.state(MANY.label) == "full"
        assert ledger.tries(MANY.label) == tried
    unmoved = Ledger(ALL)
    unmoved.restore({MANY.label: Kept("95%", False, ConfidenceSequence(9), ladder=("95%",))})
    assert unmoved.position(MANY.label) == (0, False)
    assert unmoved.sequence(MANY.label).trials == 9


@pytest.mark.parametrize("file", [None, "audits"])
def test_the_lock_of_the_file_is_released_after_each_write(
    tmp_path: Path, file: str | None
) -> None:
    ledger = Ledger(ALL, tmp_path / file if file else None)
    for _ in range(2):
        with ledger.writing:
            ledger.add(FEW.label, "99%", "agreement")
    assert ledger.sequence(FEW.label).trials == 2


def test_the_ledger_of_an_unloaded_version_leaves_no_open_file(tmp_path: Path) -> None:
    def of_ledger() -> int:
        links = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
        return sum(link.startswith(str(tmp_path)) for link in links)

    ledger = Ledger(ALL, tmp_path / "audits")
    assert of_ledger() > 0
    del ledger
    gc.collect()
    assert of_ledger() == 0
