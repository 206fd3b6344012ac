"""What workers do in the supervisor's tests; in a module that their processes can import."""

import multiprocessing
import os
import signal
import sys
from functools import partial
from pathlib import Path

from serving.processes.supervisor import Supervisor, end_with_parent


def live(_, news) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    news.send(None)
    signal.pause()


def refuse(_, news) -> None:
    news.send("the bundle is damaged")
    sys.exit(1)


def fall(*_) -> None:
    sys.exit(5)


def be_killed(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ignore(_, news) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    news.send(None)
    while True:
        signal.pause()


def live_until_the_parent_dies(number, news) -> None:
    """With a supervisor's process for a parent."""
    end_with_parent()
    live(number, news)


def supervise_and_be_killed(pids) -> None:
    """A supervisor in a process of its own, that is killed once its worker is ready."""

    def ready() -> None:
        pids.send(multiprocessing.active_children()[0].pid)
        os.kill(os.getpid(), signal.SIGKILL)

    Supervisor(live_until_the_parent_dies, 1, 5, print).run(ready)


def first(job, folder: Path, then, number, news) -> None:
    """One job for the first process of worker 0, another for every other process."""
    if number == 0 and not (folder / "begun").exists():
        (folder / "begun").touch()
        job(number, news)
    else:
        then(number, news)


def live_and_be_killed(number, news) -> None:
    news.send(None)
    be_killed(number, news)


def at_first(job, folder, then=live):
    return partial(first, job, folder, then)
