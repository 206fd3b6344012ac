"""Real processes, whose jobs are short."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from serving.errors import WorkerError
from serving.processes.supervisor import KILLED_AT_START, Supervisor
from tests.serving import jobs


def supervise(job, workers=2, patience=20, **more):
    """Run until all are ready, then SIGTERM; the numbers of the workers that died on the way."""
    dead, others = [], set(multiprocessing.active_children())  # which earlier tests may have left
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    ready = more.get("ready", lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        Supervisor(job, workers, patience, dead.append).run(ready)
    finally:
        after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        assert before == after
        assert set(multiprocessing.active_children()) <= others
    return dead


def test_all_are_ready_once_and_end_at_sigterm() -> None:
    assert supervise(jobs.live, workers=3) == []


def test_ctrl_c_ends_all() -> None:
    with pytest.raises(KeyboardInterrupt):
        supervise(jobs.live, ready=lambda: os.kill(os.getpid(), signal.SIGINT))


def test_one_that_is_killed_is_buried_and_replaced(tmp_path, caplog) -> None:
    def ready() -> None:
        def end() -> None:
            while not caplog.messages:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=end).start()

    assert supervise(jobs.at_first(jobs.live_and_be_killed, tmp_path), ready=ready) == [0]
    assert caplog.messages == ["worker 0 was killed by SIGKILL; another takes its place"]


def test_one_that_is_killed_at_its_start_is_replaced(tmp_path) -> None:
    assert supervise(jobs.at_first(jobs.be_killed, tmp_path)) == [0]


def test_the_reason_why_one_cannot_start_ends_all() -> None:
    with pytest.raises(WorkerError, match="the bundle is damaged"):
        supervise(jobs.refuse)


def test_a_successor_that_cannot_start_ends_all(tmp_path) -> None:
    job = jobs.at_first(jobs.live_and_be_killed, tmp_path, then=jobs.refuse)
    with pytest.raises(WorkerError, match="the bundle is damaged"):
        supervise(job, workers=1, ready=lambda: None)


def test_one_that_falls_at_its_start_ends_all() -> None:
    with pytest.raises(WorkerError, match="worker 0 ended with 5 before it was ready"):
        supervise(jobs.fall, workers=1)


def test_one_that_is_always_killed_at_its_start_ends_all(caplog) -> None:
    with pytest.raises(WorkerError, match="worker 0 was killed by SIGKILL before it was ready"):
        supervise(jobs.be_killed, workers=1)
    assert len(caplog.messages) == KILLED_AT_START


def test_one_that_does_not_end_in_time_is_killed(caplog) -> None:
    supervise(jobs.ignore, workers=1, patience=0.2)
    assert caplog.messages == ["worker 0 did not end in time and is killed"]


def test_a_worker_ends_when_its_supervisor_is_killed(wait_until) -> None:
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe(duplex=False)
    supervisor = spawn.Process(target=jobs.supervise_and_be_killed, args=(theirs,))
    supervisor.start()
    worker = mine.recv()
    supervisor.join()
    assert supervisor.exitcode == -signal.SIGKILL
    wait_until(lambda: not running(worker))


def running(pid):
    """Whether it is more than a zombie: in a container perhaps nobody reaps orphans."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False
