"""A supervisor of real processes, whose jobs are short."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.errors import WorkerError
from serving.processes.supervisor import KILLED_AT_START, RETRY_SECONDS, Job, Supervisor
from tests.serving import jobs
from tests.serving.servers import WaitUntil


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def supervise(
    job: Job,
    workers: int = 2,
    patience: float = 20,
    ready: Callable[[], None] = terminate,
    retry: float = RETRY_SECONDS,
) -> list[int]:
    """Run until all are ready, then SIGTERM. Return the numbers of workers that died before."""
    dead: list[int] = []
    others = set(multiprocessing.active_children())  # of earlier tests
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        Supervisor(job, workers, patience, dead.append, retry).run(ready)
    finally:
        after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        assert before == after
        assert set(multiprocessing.active_children()) <= others
    return dead


def terminate_after_messages(
    caplog: pytest.LogCaptureFixture, count: int = 1
) -> Callable[[], None]:
    """Return a callback that sends SIGTERM once there are `count` lines in the log."""

    def end() -> None:
        while len(caplog.messages) < count:
            time.sleep(0.01)
        terminate()

    return lambda: threading.Thread(target=end).start()


def test_all_are_ready_once_and_end_at_sigterm() -> None:
    assert supervise(jobs.live, workers=3) == []


def test_ctrl_c_ends_all() -> None:
    with pytest.raises(KeyboardInterrupt):
        supervise(jobs.live, ready=lambda: os.kill(os.getpid(), signal.SIGINT))


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (jobs.live_and_be_killed, "worker 0 was killed by SIGKILL and is replaced"),
        (jobs.live_and_break, "worker 0 ended with 1 (the engine broke) and is replaced"),
    ],
)
def test_a_worker_that_ends_is_replaced_and_the_log_says_why(
    job: Job, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ready = terminate_after_messages(caplog)
    assert supervise(jobs.at_first(job, tmp_path), ready=ready) == [0]
    assert caplog.messages == [says]


def test_a_worker_that_is_killed_at_its_start_is_replaced(tmp_path: Path) -> None:
    assert supervise(jobs.at_first(jobs.be_killed, tmp_path)) == [0]


def test_a_worker_that_cannot_start_ends_all_with_its_reason() -> None:
    with pytest.raises(WorkerError, match="the bundle is damaged"):
        supervise(jobs.refuse)


def test_a_successor_that_cannot_start_ends_all(tmp_path: Path) -> None:
    job = jobs.at_first(jobs.live_and_be_killed, tmp_path, then=jobs.refuse)
    with pytest.raises(WorkerError, match="the bundle is damaged"):
        supervise(job, workers=1, ready=lambda: None)


def test_a_worker_that_cannot_be_replaced_ends_only_itself_while_others_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = jobs.in_turn(
        tmp_path, jobs.live_and_be_killed, jobs.refuse, jobs.end_at_start, jobs.refuse, jobs.live
    )
    begun = time.monotonic()
    ready = terminate_after_messages(caplog, 4)
    assert supervise(job, ready=ready, retry=0.1) == [1, 1, 1, 1]
    assert time.monotonic() - begun > 0.1 + 0.2  # it ends with the last message, not .4 s later
    ends = "the other workers serve on, and it is started again in"
    assert caplog.messages == [
        "worker 1 was killed by SIGKILL and is replaced",
        f"worker 1 ended with 1 (the bundle is damaged) before it was ready: {ends} 0.1 s",
        f"worker 1 ended with 5 before it was ready: {ends} 0.2 s",
        f"worker 1 ended with 1 (the bundle is damaged) before it was ready: {ends} 0.4 s",
    ]


def test_a_worker_that_is_always_killed_at_its_start_is_started_later_while_others_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = jobs.in_turn(tmp_path, *[jobs.be_killed] * (KILLED_AT_START + 1), jobs.live)
    ready = terminate_after_messages(caplog, KILLED_AT_START + 1)
    supervise(job, ready=ready, retry=0.1)
    assert len(caplog.messages) == KILLED_AT_START + 1
    assert "serve on" in caplog.messages[-1]


def test_a_worker_that_ends_at_its_start_ends_all() -> None:
    with pytest.raises(WorkerError, match="worker 0 ended with 5 before it was ready"):
        supervise(jobs.end_at_start, workers=1)


def test_a_worker_that_is_always_killed_at_its_start_ends_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(WorkerError, match="worker 0 was killed by SIGKILL before it was ready"):
        supervise(jobs.be_killed, workers=1)
    assert len(caplog.messages) == KILLED_AT_START


def test_a_worker_that_does_not_end_in_time_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    supervise(jobs.ignore, workers=1, patience=0.2)
    assert caplog.messages == ["worker 0 did not end in time and is killed"]


def test_no_worker_waits_for_a_supervisor_that_ends(caplog: pytest.LogCaptureFixture) -> None:
    supervise(jobs.live_until_nobody_listens, workers=1, patience=5)
    assert caplog.messages == []


def test_a_worker_ends_when_its_supervisor_is_killed(wait_until: WaitUntil) -> None:
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe(duplex=False)
    supervisor = spawn.Process(target=jobs.supervise_and_be_killed, args=(theirs,))
    supervisor.start()
    worker = mine.recv()
    supervisor.join()
    assert supervisor.exitcode == -signal.SIGKILL
    wait_until(lambda: not running(worker))


def running(pid: int) -> bool:
    """Return whether a process runs. A zombie does not: in a container orphans can stay so."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False
