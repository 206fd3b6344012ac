"""Audits survive a restart, and those of another bundle do not."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from offramp.bundle.promises import Promise, Promises
from offramp.bundle.values import Estimate
from offramp.errors import UnwritableFileError
from serving.audit.ledger import Ledger
from serving.audit.sequence import BLOCK, ConfidenceSequence, Result
from serving.audit.standing import AuditedPromise
from serving.audit.state_file import StateFile, bundle_hash, earlier_hash

PROMISE = AuditedPromise("promise-95", 0.05, 0.02, ("95%", "99%", "full"))
GRAPHS = ["a" * 64]
SOME = Estimate(value=1, low=1, high=1)


def certificates(epsilon: float = 0.05, losses: int = 60) -> Promises:
    promise = Promise(
        name=None,
        kind="agreement",
        epsilon=epsilon,
        losses=losses,
        risk=0.5,
        thresholds=(0.0,),
        mean_flops=SOME,
        exit_shares=(SOME,),
    )
    return Promises(
        delta=0.02,
        at_once=1,
        tuned=0,
        certified=4000,
        source="photos",
        graphs=tuple(GRAPHS),
        offered=(promise,),
    )


BUNDLE, EARLIER = bundle_hash(GRAPHS, certificates()), earlier_hash(GRAPHS, [PROMISE])


def restored(path: Path, bundle: str = BUNDLE) -> Ledger:
    ledger = Ledger([PROMISE])
    StateFile(path, bundle, EARLIER).restore(ledger)
    return ledger


def saved(path: Path) -> Ledger:
    """Return a ledger with some audits, which was saved."""
    ledger, file = Ledger([PROMISE]), StateFile(path, BUNDLE)
    file.restore(ledger)
    for _ in range(40):
        ledger.add(PROMISE.label, "95%", "disagreement")
    for number in range(BLOCK):
        result: Result = "unknown" if number % 100 == 0 else "agreement"
        tried: Result = "disagreement" if number % 10 == 5 else result
        ledger.add(PROMISE.label, "full", result, ["disagreement", tried, "agreement"])
    file.save(ledger)
    return ledger


def test_positions_and_sequences_survive_a_restart(tmp_path: Path) -> None:
    before = saved(tmp_path / "audits.json")
    assert before.position(PROMISE.label) == (2, False)
    assert before.tries(PROMISE.label)
    after = restored(tmp_path / "audits.json")
    assert after.kept() == before.kept()
    assert [each.name for each in tmp_path.iterdir()] == ["audits.json"]


def test_safer_points_are_tried_after_a_restart_of_a_server_without_them(tmp_path: Path) -> None:
    """As with `--on-broken full`, and then `safer`."""
    path = tmp_path / "audits.json"
    ledger, file = Ledger([replace(PROMISE, ladder=("95%", "full"))]), StateFile(path, BUNDLE)
    file.restore(ledger)
    for _ in range(40):
        ledger.add(PROMISE.label, "95%", "disagreement")
    assert (ledger.state(PROMISE.label), ledger.tries(PROMISE.label)) == ("full", False)
    file.save(ledger)
    after = restored(path)
    assert (after.state(PROMISE.label), after.tries(PROMISE.label)) == ("full", True)


def test_a_file_that_is_missing_is_made_at_start(tmp_path: Path) -> None:
    restored(tmp_path / "audits.json")
    assert json.loads((tmp_path / "audits.json").read_text())["bundle"] == BUNDLE


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"losses": ', '"losses": 999'),
        lambda text: text.replace('"unknown": 5', '"unknown": 5000'),
        lambda text: text.replace('"marks"', '"marked"'),
        lambda _: "[]",
        lambda _: "",
    ],
)
def test_a_damaged_file_is_logged_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: object
) -> None:
    path = tmp_path / "audits.json"
    saved(path)
    assert callable(change)
    path.write_text(change(path.read_text()))
    assert restored(path).sequence(PROMISE.label).trials == 0
    assert "audits.json cannot be read, audits begin anew" in caplog.text


def test_audits_of_another_bundle_or_of_other_promises_are_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audits.json"
    saved(path)
    other = bundle_hash(["b" * 64], certificates())
    weaker = bundle_hash(GRAPHS, certificates(epsilon=0.06))
    certified_anew = bundle_hash(GRAPHS, certificates(losses=61))
    assert len({BUNDLE, other, weaker, certified_anew}) == 4
    assert restored(path, certified_anew).sequence(PROMISE.label).trials == 0
    saved(path)
    assert restored(path, other).sequence(PROMISE.label).trials == 0
    assert "of another bundle or of other promises, audits begin anew" in caplog.text


def test_the_file_of_an_earlier_server_is_read_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "audits.json"
    audits = {"point": "99%", "broken": False, "trials": 40, "losses": 1, "unknown": 2, "marks": []}
    path.write_text(json.dumps({"bundle": EARLIER, "promises": {PROMISE.label: audits}}))
    ledger = restored(path)
    assert ledger.position(PROMISE.label) == (1, False)
    assert ledger.sequence(PROMISE.label) == ConfidenceSequence(40, 1, 2)
    assert json.loads(path.read_text())["bundle"] == BUNDLE


def test_a_file_that_cannot_be_written_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFileError, match=r"nowhere/audits\.json: cannot be written"):
        restored(tmp_path / "nowhere" / "audits.json")


def test_a_write_that_fails_later_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    ledger, file = Ledger([PROMISE]), StateFile(folder / "audits.json", BUNDLE)
    file.restore(ledger)
    (folder / "audits.json").unlink()
    folder.rmdir()
    ledger.add(PROMISE.label, "95%", "agreement")
    file.save(ledger)
    assert "the audits were not saved" in caplog.text


def test_a_worker_saves_its_audits_after_another_one_has_unloaded_the_version(
    tmp_path: Path,
) -> None:
    folder, path = tmp_path / "v@1-1", tmp_path / "audits.json"
    folder.mkdir()
    ledgers = [Ledger([PROMISE], folder / "audits") for _ in range(2)]
    files = [StateFile(path, BUNDLE) for _ in ledgers]
    for file, ledger in zip(files, ledgers, strict=True):
        file.restore(ledger)
    files[0].save(ledgers[0])
    shutil.rmtree(folder)
    ledgers[1].add(PROMISE.label, "95%", "agreement")
    files[1].save(ledgers[1])
    assert restored(path).sequence(PROMISE.label).trials == 1


def test_a_version_is_loaded_while_its_predecessor_saves_its_last_audits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same name and version, so the same file, and no lock in common."""
    path, synchronize = tmp_path / "audits.json", os.fsync

    def load_meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", synchronize)
        restored(path)
        synchronize(descriptor)

    monkeypatch.setattr(os, "fsync", load_meanwhile)
    ledger = saved(path)
    assert [each.name for each in tmp_path.iterdir()] == ["audits.json"]
    assert restored(path).kept() == ledger.kept()


def test_nothing_is_written_without_a_change(tmp_path: Path) -> None:
    ledger, file = Ledger([PROMISE]), StateFile(tmp_path / "audits.json", BUNDLE)
    file.restore(ledger)
    (tmp_path / "audits.json").unlink()
    file.save(ledger)
    assert not (tmp_path / "audits.json").exists()
    ledger.add(PROMISE.label, "95%", "agreement")
    file.save(ledger)
    assert (tmp_path / "audits.json").exists()
