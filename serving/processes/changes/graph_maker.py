"""The process that makes the graphs of a version, once for all workers.

It is a child of the supervisor for the time of one load. So it shares no lock of an interpreter or
of a heap with what answers, all of its memory goes back to the system, and a graph that breaks it
breaks no worker. Its result is in sealed memory, which only this server's user can open.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from offramp.bundle.manifest import read_manifest
from offramp.errors import OfframpError
from serving.models.catalog import Entry
from serving.models.folder import ModelFolder
from serving.priorities import MAKING, yield_to_answers
from serving.runtime.cpu import make_ready
from serving.runtime.memory import keep_freed
from serving.runtime.ready_graphs import write_graphs
from serving.runtime.stage_cache import key_of
from serving.settings import Layout, Settings

NAME = "offramp-graphs"  # of the memory, in /proc
Make = Callable[[Entry, Collection[Entry], int], bool]
Result = tuple[Path | None, str | None]


class GraphMaker:
    """Makes graphs, in a process of its own for each version. It is a `Maker`.

    Args:
        make: Writes the graphs of an entry into memory, unless one of the loaded entries has them.
            Returns whether it did.

    Attributes:
        news: Pipe that can be read when `result` can be called. `None`: nothing is being made.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._process: multiprocessing.context.ForkProcess | None = None
        self._memory: int | None = None
        self.news: Pipe | None = None

    def begin(self, entry: Entry, loaded: Collection[Entry]) -> None:
        """Begin to make the graphs of an entry, as `Maker` defines."""
        self._memory = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fork = multiprocessing.get_context("fork")  # the supervisor has one thread
        reader, writer = fork.Pipe(duplex=False)
        arguments = (self._make, entry, loaded, self._memory, writer)
        process = fork.Process(target=_work, args=arguments, daemon=True)
        process.start()
        writer.close()
        self.news, self._process = reader, process

    def result(self) -> Result:
        """Return the file of the graphs, if some were made, or why they could not be."""
        assert self.news is not None
        assert self._process is not None
        try:
            made, error = self.news.recv()
        except EOFError:
            self._process.join()
            made, error = False, f"the process that loads it {_end_of(self._process.exitcode)}"
        self._end()
        return Path(f"/proc/{os.getpid()}/fd/{self._memory}") if made else None, error

    def drop(self) -> None:
        """Stop, and drop what was made. Workers that opened it keep it."""
        self._end()
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self.news is not None:
            self.news.close()
        self._process = self.news = None


def _end_of(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with {code}"


def graph_maker_of(settings: Settings, folder: ModelFolder) -> GraphMaker | None:
    """Return what makes graphs for the workers. `None`: each one makes its own."""
    if sys.platform != "linux" or settings.provider != "cpu" or settings.layout != "native":
        return None
    return GraphMaker(partial(make_graphs, settings.layout, folder))


def make_graphs(
    layout: Layout, folder: ModelFolder, entry: Entry, loaded: Collection[Entry], memory: int
) -> bool:
    """Make the graphs of an entry, unless a loaded one has them. Return whether it made them.

    Raises:
        OfframpError: The version is damaged, or changed since the change was planned.
        OSError: There is no memory for the graphs.
    """
    path = folder.unchanged(entry)
    manifest = read_manifest(path)
    key = key_of(manifest, layout)
    for each in loaded:
        with suppress(OfframpError):
            if key_of(read_manifest(folder.unchanged(each)), layout) == key:
                return False
    if (graphs := make_ready(path, manifest, layout)) is None:
        return False
    write_graphs(graphs, memory)
    return True


def _work(make: Make, entry: Entry, loaded: Collection[Entry], memory: int, news: Pipe) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # those to the group are the supervisor's
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield_to_answers(MAKING)
    keep_freed()
    try:
        news.send((make(entry, loaded, memory), None))
    except Exception as error:  # noqa: BLE001 (the supervisor gets it)
        news.send((False, str(error) or type(error).__name__))
