from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.reload.__main__ import main
from tests.serving.small_bundle import write_bundle


def test_a_short_run_fails_no_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.serving.reload.__main__.SETTLE", 0.2)
    bundle = write_bundle(tmp_path / "testnet")
    main(["--bundle", str(bundle), "--seconds", "1.5", "--reloads", "1", "--rollbacks", "1",
          "--workers", "1", "--clients", "2", "--changes", "manifest"])  # fmt: skip
    printed = capsys.readouterr().out
    for goal in ("no request fails: 0 of", "loads succeed", "every answer is of the version"):
        assert f"met      {goal}" in printed
