from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.observe import worker_metrics
from serving.observe.worker_metrics import CPU, SUPERVISOR, Processes, metrics_folder


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


HOLD = """
import sys, time
from pathlib import Path
from serving.observe import worker_metrics
worker_metrics.MEMORY = Path(sys.argv[1])
if sys.argv[2] == "supervisor":
    with worker_metrics.metrics_folder() as folder:
        print(folder, flush=True)
        time.sleep(60)
worker_metrics.WorkerMetrics(Path(sys.argv[2]), 0).activate()
print("active", flush=True)
time.sleep(60)
"""


def held(place: Path, job: str) -> tuple[subprocess.Popen[str], str]:
    """Start a supervisor in a place, or a worker in a folder. Return it and what it printed."""
    command = [sys.executable, "-c", HOLD, str(place), job]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_folder_of_a_killed_server_is_removed_once_all_its_processes_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_metrics, "MEMORY", tmp_path)
    supervisor, name = held(tmp_path, "supervisor")
    worker, _ = held(tmp_path, name)
    for process in (supervisor, worker):
        with metrics_folder():
            assert Path(name, worker_metrics.SUPERVISOR).exists()
        kill(process)
    with metrics_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_other_folders_are_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_metrics, "MEMORY", tmp_path)
    elsewhere = tmp_path / "elsewhere"
    for name in ("offramp-without-lock", "elsewhere", "other-abc"):
        (tmp_path / name).mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "offramp-link").symlink_to(elsewhere)
    (tmp_path / "offramp-file").touch()
    (tmp_path / "offramp-pipe").mkdir()
    os.mkfifo(tmp_path / "offramp-pipe" / "other")
    before = set(tmp_path.iterdir())
    with metrics_folder():
        assert before < set(tmp_path.iterdir())
    assert set(tmp_path.iterdir()) == before
    assert (elsewhere / "lock").exists()


def test_a_supervisor_may_have_any_name(tmp_path: Path) -> None:
    program = tmp_path / "caf\xe9"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as supervisor:
        (tmp_path / SUPERVISOR).write_text(str(supervisor.pid), encoding="ascii")
        found = {metric.name for metric in Processes(tmp_path).collect()}
        supervisor.kill()
    assert CPU in found
