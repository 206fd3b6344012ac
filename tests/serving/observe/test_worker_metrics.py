import pytest

from serving.observe import worker_metrics as shared
from serving.observe.worker_metrics import metrics_folder


def test_the_folder_is_ours_alone_and_goes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shared, "MEMORY", tmp_path)
    with metrics_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "counter_0.db").write_bytes(b"?")
    assert not folder.exists()


def test_nowhere_to_write_says_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(shared, "MEMORY", tmp_path / "nowhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match="TMPDIR, or --workers 1"), metrics_folder():
        pass
