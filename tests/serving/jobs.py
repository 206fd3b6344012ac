"""Work of the processes in the supervisor's tests, in a module that they can import."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Never

from serving.processes.supervisor import Job, Supervisor
from serving.processes.worker import end_with_parent


def live(_: int, news: Connection) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    news.send(None)
    signal.pause()


def refuse(_: int, news: Connection) -> Never:
    news.send("the bundle is damaged")
    sys.exit(1)


def end_at_start(*_: object) -> Never:
    sys.exit(5)


def be_killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ignore(_: int, news: Connection) -> Never:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    news.send(None)
    while True:
        signal.pause()


def live_until_nobody_listens(_: int, news: Connection) -> None:
    """Ignore SIGTERM, as a server does while a call waits."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    news.send(None)
    poller = select.poll()
    poller.register(news.fileno(), 0)
    poller.poll()


def live_until_the_parent_dies(number: int, news: Connection) -> None:
    """Live, in a process whose parent is a supervisor."""
    end_with_parent()
    live(number, news)


def supervise_and_be_killed(pids: Connection) -> None:
    """Supervise in a process of its own, which is killed once its worker is ready."""

    def ready() -> None:
        pids.send(multiprocessing.active_children()[0].pid)
        os.kill(os.getpid(), signal.SIGKILL)

    Supervisor(live_until_the_parent_dies, 1, 5, print).run(ready)


def first(job: Job, folder: Path, then: Job, number: int, news: Connection) -> None:
    """Run one job in the first process of worker 0, and another in every other process."""
    if number == 0 and not (folder / "begun").exists():
        (folder / "begun").touch()
        job(number, news)
    else:
        then(number, news)


def live_and_be_killed(number: int, news: Connection) -> None:
    news.send(None)
    be_killed(number, news)


def live_and_break(_: int, news: Connection) -> Never:
    news.send(None)
    news.send("the engine broke")
    sys.exit(1)


def at_first(job: Job, folder: Path, then: Job = live) -> Job:
    return partial(first, job, folder, then)


def each_in_turn(jobs: tuple[Job, ...], folder: Path, number: int, news: Connection) -> None:
    """Run the next of some jobs in each process of worker 1, once worker 0 serves."""
    if number == 0:
        news.send(None)
        (folder / "serves").touch()
        live_on()
    while not (folder / "serves").exists():
        time.sleep(0.01)
    begun = len(list(folder.glob("begun-*")))
    (folder / f"begun-{begun}").touch()
    jobs[begun](number, news)


def live_on() -> Never:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        signal.pause()


def in_turn(folder: Path, *jobs: Job) -> Job:
    return partial(each_in_turn, jobs, folder)
