"""What the workers of one server share, so that any of them answers `/metrics` for all.

It is prometheus_client's multiprocess mode, with the worker's number in place of the process id:
whoever takes a dead worker's place goes on with its counters, and the files do not grow in
number. A dead worker's live gauges go with it. Beside them lie what is counted for every answer
(`tally`, `shares`) and the ids of all processes, whose memory and processor time are told as if
they were one's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from prometheus_client import Metric, values
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.process_collector import ProcessCollector

MEMORY = Path("/dev/shm")  # noqa: S108 (a fresh folder in it, for its owner alone)
SUPERVISOR = "supervisor.pid"
OF_ONE = {"process_start_time_seconds", "process_max_fds"}  # the supervisor's, not a sum
CPU = "process_cpu_seconds"


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """A worker's place: the folder of all workers' metrics, and its number."""

    folder: Path
    worker: int

    def enter(self) -> None:
        """Make every metric of this process, from now on, one of this worker's."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)
        values.ValueClass = values.MultiProcessValue(lambda: self.worker)
        self._pid.write_text(str(os.getpid()), encoding="ascii")

    def bury(self) -> None:
        """The worker is dead: its live gauges go, its counters stay."""
        mark_process_dead(self.worker, str(self.folder))
        self._pid.unlink(missing_ok=True)

    @property
    def _pid(self) -> Path:
        return self.folder / f"{self.worker}.pid"


class Processes:
    """A collector: the `process_*` metrics of the supervisor and its workers together.

    Resident memory counts what they share once for each. Processor time has that of the dead.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Sums over the processes that live; nothing where there is no /proc."""
        supervisor = self._folder / SUPERVISOR
        together = _told(supervisor)
        for file in self._folder.glob("*.pid"):
            for name, family in _told(file).items() if file != supervisor else ():
                if name in together and name not in OF_ONE:
                    _add(together[name], family.samples[0].value)
        if CPU in together:
            _add(together[CPU], _of_the_dead(supervisor))
        yield from together.values()


def _told(file: Path) -> dict[str, Metric]:
    """What there is to say of one process by the metric's name; nothing of one that has ended."""
    with suppress(OSError):
        pid = file.read_text(encoding="ascii")
        return {f.name: f for f in ProcessCollector(pid=lambda: pid, registry=None).collect()}
    return {}


def _add(family: Metric, value: float) -> None:
    (sample,) = family.samples
    family.samples = [sample._replace(value=sample.value + value)]


def _of_the_dead(supervisor: Path) -> float:
    """Seconds of processor time of the children that have ended."""
    stat = Path("/proc", supervisor.read_text(encoding="ascii"), "stat").read_text("ascii")
    return sum(map(int, stat.rpartition(")")[2].split()[13:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A fresh folder, in memory where there is such a place; removed at the end.

    Raises:
        OSError: no folder for temporary files can be written.
    """
    try:
        place = MEMORY if os.access(MEMORY, os.W_OK) else gettempdir()
        folder = TemporaryDirectory(prefix="offramp-", dir=place)
    except OSError as error:
        text = "several workers need a folder for temporary files: set TMPDIR, or --workers 1"
        raise OSError(text) from error
    with folder as name:
        Path(name, SUPERVISOR).write_text(str(os.getpid()), encoding="ascii")
        yield Path(name)
