"""The changes of a run: loads of new versions, rollbacks, and corrupt versions among them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Timer
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from benchmarks.serving.reload.models import NAME, Versions
from benchmarks.serving.servers.processes import process_tree
from offramp.load.connection import HOST
from offramp.load.outcomes import NO_ANSWER, OK

Kind = Literal["reload", "rollback", "corrupt", "kill"]
CORRUPT_EVERY, KILL_EVERY = 10, 20  # reloads
SECONDS = 120.0  # for one change
WORKER = b"spawn_main"  # in the command of a worker, other than in that of a process that loads


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was made.

    Attributes:
        kind: What it was.
        status: HTTP status of the call. `NO_ANSWER`: its connection was lost.
        seconds: Time of the call.
    """

    kind: Kind
    status: int
    seconds: float

    @property
    def right(self) -> bool:
        """Return whether the server answered as it has to."""
        return (self.status == OK) == (self.kind != "corrupt")


def script(reloads: int, rollbacks: int, *, kill: bool) -> Iterator[Kind]:
    """Yield the kinds of changes in their order, the rollbacks spread evenly."""
    due = 0
    for number in range(1, reloads + 1):
        yield "kill" if kill and number % KILL_EVERY == 0 else "reload"
        if number % CORRUPT_EVERY == 0:
            yield "corrupt"
        while due < rollbacks * number // reloads:
            due += 1
            yield "rollback"


class Changer:
    """Changes the models of a server.

    Args:
        port: Port of the server.
        pid: Process of the server.
        key: Its admin key.
        versions: Writes versions into its folder, in which version 1 is loaded.
    """

    def __init__(self, port: int, pid: int, key: str, versions: Versions) -> None:
        self._port, self._pid, self._key = port, pid, key
        self._versions = versions
        self._numbers = count(2)
        self._loaded = [1]  # the last one answers
        self._load_seconds = 0.0  # of the last load

    def make(self, kind: Kind) -> Change:
        """Make a change."""
        if kind == "rollback":
            version = self._loaded[-2]
        else:
            version = next(self._numbers)
            self._versions.write(version, corrupt=kind == "corrupt")
        started = time.perf_counter()
        killing = Timer(self._load_seconds / 2, self._kill)
        if kind == "kill":
            killing.start()
        status = self._load(version)
        if kind == "kill":
            killing.join()
            if status == NO_ANSWER:  # the killed worker had the call
                status = self._load(version)
        seconds = time.perf_counter() - started
        if kind == "reload":
            self._load_seconds = seconds
        if status == OK:
            self._loaded = [*(each for each in self._loaded if each != version), version][-2:]
        return Change(kind, status, seconds)

    def _kill(self) -> None:
        """Kill a worker, if there are several."""
        children = [each.pid for each in process_tree(self._pid) if each.parent == self._pid]
        workers = [pid for pid in children if WORKER in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if len(workers) > 1:
            os.kill(max(workers), signal.SIGKILL)

    def _load(self, version: int) -> int:
        return load_version(self._port, self._key, NAME, version)


def load_version(port: int, key: str, name: str, version: int, share: float = 1.0) -> int:
    """Load a version of a model, with a share below 1 as a canary. Return the HTTP status."""
    url = f"http://{HOST}:{port}/v2/repository/models/{name}/load"
    body = json.dumps({"parameters": {"version": str(version), "share": share}}).encode()
    request = Request(url, body, {"Authorization": f"Bearer {key}"})
    try:
        with urlopen(request, timeout=SECONDS) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code
    except (ConnectionError, URLError):  # the latter while it connects
        return NO_ANSWER
