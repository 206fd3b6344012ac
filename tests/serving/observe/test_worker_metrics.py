from __future__ import annotations

from pathlib import Path

import pytest

from serving.observe import worker_metrics
from serving.observe.worker_metrics import metrics_folder


def test_the_folder_is_private_and_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_metrics, "MEMORY", tmp_path)
    with metrics_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "counter_0.db").write_bytes(b"?")
    assert not folder.exists()


def test_without_a_writable_folder_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_metrics, "MEMORY", tmp_path / "nowhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match="TMPDIR, or --workers 1"), metrics_folder():
        pass
