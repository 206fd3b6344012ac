"""Audits survive a restart, and those of another bundle do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offramp.errors import UnwritableFileError
from serving.audit.ledger import AuditedPromise, Ledger
from serving.audit.sequence import BLOCK
from serving.audit.state_file import StateFile, bundle_hash

PROMISE = AuditedPromise("promise-95", 0.05, 0.02, ("95%", "99%", "full"))
BUNDLE = bundle_hash(["a" * 64], [PROMISE])


def restored(path: Path, bundle: str = BUNDLE) -> Ledger:
    ledger = Ledger([PROMISE])
    StateFile(path, bundle).restore(ledger)
    return ledger


def saved(path: Path) -> Ledger:
    """Return a ledger with some audits, which was saved."""
    ledger, file = Ledger([PROMISE]), StateFile(path, BUNDLE)
    file.restore(ledger)
    for _ in range(40):
        ledger.add(PROMISE.label, "95%", "disagreement")
    for number in range(BLOCK):
        ledger.add(PROMISE.label, "99%", "unknown" if number % 100 == 0 else "agreement")
    file.save(ledger)
    return ledger


def test_positions_and_sequences_survive_a_restart(tmp_path: Path) -> None:
    before = saved(tmp_path / "audits.json")
    assert before.position(PROMISE.label) == (1, False)
    after = restored(tmp_path / "audits.json")
    assert after.kept() == before.kept()
    assert [each.name for each in tmp_path.iterdir()] == ["audits.json"]


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
    other = bundle_hash(["b" * 64], [PROMISE])
    weaker = bundle_hash(["a" * 64], [AuditedPromise("promise-95", 0.05, 0.05, ("95%",))])
    assert len({BUNDLE, other, weaker}) == 3
    assert restored(path, other).sequence(PROMISE.label).trials == 0
    assert "of another bundle or of other promises, audits begin anew" in caplog.text


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


def test_nothing_is_written_without_a_change(tmp_path: Path) -> None:
    ledger, file = Ledger([PROMISE]), StateFile(tmp_path / "audits.json", BUNDLE)
    file.restore(ledger)
    (tmp_path / "audits.json").unlink()
    file.save(ledger)
    assert not (tmp_path / "audits.json").exists()
    ledger.add(PROMISE.label, "95%", "agreement")
    file.save(ledger)
    assert (tmp_path / "audits.json").exists()
